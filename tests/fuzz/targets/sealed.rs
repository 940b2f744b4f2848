//! A sealed value opens as it was sealed, in its place, and in no other way.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use lead_webhook::keyring::{Column, KeyRing, Place};
use libfuzzer_sys::fuzz_target;

const PLAIN: &[u8] = b"https://hooks.example.com/services/T0/B0";
const PLACE: Place<'static> = Place { tenant: "acme", column: Column::EndpointUrl };

static RING: LazyLock<(KeyRing, Vec<u8>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    KeyRing::write_new(&path).expect("a key file");
    let ring = KeyRing::read(&path).expect("its keys");
    let sealed = ring.seal(&PLACE, PLAIN).expect("a sealed value");
    (ring, sealed)
});

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    /// Bytes from nowhere, behind as many of the real ones.
    Forged { kept: u8, bytes: &'a [u8] },
    /// The real ones, each of these places changed by so much.
    Altered { changes: Vec<(u8, u8)> },
    /// The real ones, elsewhere.
    Moved { tenant: &'a str, column: u8 },
}

fuzz_target!(|input: Input<'_>| {
    let (ring, sealed) = &*RING;
    let open = |place: &Place<'_>, bytes: &[u8]| ring.open(place, bytes).map(|plain| plain.expose().clone());
    match input {
        Input::Forged { kept, bytes } => {
            let forged = [&sealed[..usize::from(kept).min(sealed.len())], bytes].concat();
            assert!(forged == *sealed || open(&PLACE, &forged).is_err());
        }
        Input::Altered { changes } => {
            let mut altered = sealed.clone();
            for (place, by) in changes {
                if let Some(byte) = altered.get_mut(usize::from(place)) {
                    *byte ^= by;
                }
            }
            let opened = open(&PLACE, &altered);
            if altered == *sealed {
                assert_eq!(opened.expect("as it was sealed"), PLAIN);
            } else {
                assert!(opened.is_err());
            }
        }
        Input::Moved { tenant, column } => {
            let columns = [Column::EndpointUrl, Column::EndpointSecret, Column::EndpointHeaders, Column::UniquenessKey];
            let column = columns[usize::from(column) % columns.len()];
            let is_its_place = tenant == PLACE.tenant && column == PLACE.column;
            assert_eq!(open(&Place { tenant, column }, sealed).is_ok(), is_its_place);
        }
    }
});
