//! What a request says: the strings of its body, and its URL's parts.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use url::Url;

/// Every string of a JSON document, but for names. `None`: it is none.
pub(super) fn strings(json: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice(json).map(|Strings(strings)| strings).ok()
}

/// The URL and its parts, as they are spelled and as receivers decode them.
pub(super) fn parts(url: &Url) -> Vec<String> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decoded != text).then_some(decoded)
    };
    let path = url.path_segments().into_iter().flatten().chain([url.path()]);
    let path = path.flat_map(|part| [Some(part.to_owned()), decoded(part)]).flatten();
    let query = url.query_pairs().flat_map(|(name, value)| [name.into_owned(), value.into_owned()]);
    path.chain(query).chain([url.as_str().to_owned()]).collect()
}

/// Read by hand: to `serde_json::Value` some names of members are a number's.
struct Strings(Vec<String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EachString).map(Self)
    }
}

struct EachString;

impl<'de> Visitor<'de> for EachString {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut strings = Vec::new();
        while let Some((_, Strings(within))) = map.next_entry::<IgnoredAny, Strings>()? {
            strings.extend(within);
        }
        Ok(strings)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut strings = Vec::new();
        while let Some(Strings(within)) = list.next_element()? {
            strings.extend(within);
        }
        Ok(strings)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_of_a_body_is_found_whatever_its_member_is_called() {
        let json = br#"{"a":"x","b":["y",1,-2,3.5,null,true],"$serde_json::private::Number":"z","c":{"d":"\u0061"}}"#;
        let mut strings = strings(json).unwrap();
        strings.retain(|text| text != "3.5");
        assert_eq!(strings, ["x", "y", "z", "a"]);
        assert_eq!(super::strings(b"{\"a\":"), None);
    }

    #[test]
    fn a_path_is_known_as_it_is_decoded_too() {
        let url = Url::parse("https://example.com/in/s3cr%2Bt%2Ftok%3D/my%20path?key=a%26b").unwrap();
        let parts = parts(&url);
        for part in ["s3cr%2Bt%2Ftok%3D", "s3cr+t/tok=", "my path", "/in/s3cr+t/tok=/my path", "a&b", "key"] {
            assert!(parts.iter().any(|known| known == part), "{part}: {parts:?}");
        }
    }
}
