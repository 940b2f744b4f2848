//! What is sealed and was altered, cut off or moved, or is sealed by another key, is never sent by: its tenant's deliveries
//! fail, with words that say what to do, and all others go on.

use std::fs;

use lead_webhook::keyring::{Column, KeyRing, Place};

use crate::{
    harness::{LogRow, Process, Setup},
    sealed::{Sealed, put},
};

/// The columns of an endpoint, with the failure that each has where it does not open, and its name in texts.
const COLUMNS: [(Column, &str, &str); 3] = [
    (Column::EndpointUrl, "secret", "URL"),
    (Column::EndpointSecret, "secret", "secret"),
    (Column::EndpointHeaders, "headers", "headers"),
];

const HEADERS: &str = r#"[["Authorization","Bearer cr3dential"]]"#;

/// The values of an endpoint in the order of [`COLUMNS`].
type Values = [Vec<u8>; 3];

/// A setup with the endpoints of one tenant that is well, and what seals values as its commands do.
struct Vault {
    setup: Setup,
    keys: KeyRing,
    plain: Values,
}

impl Vault {
    async fn new() -> Self {
        let setup = Setup::new().await;
        let secret = setup.endpoint("well").await;
        let keys = KeyRing::read(&setup.key_file()).unwrap();
        let plain = [setup.receiver.url().into_bytes(), secret.into_bytes(), HEADERS.as_bytes().to_vec()];
        Self { setup, keys, plain }
    }

    /// The same endpoint, sealed for another tenant.
    fn seal(&self, keys: &KeyRing, tenant: &str) -> Values {
        [0, 1, 2].map(|i| keys.seal(&Place { tenant, column: COLUMNS[i].0 }, &self.plain[i]).unwrap())
    }

    /// Saves endpoints as they are given, and inserts a lead of each.
    async fn save(&self, endpoints: &[(String, Values)]) {
        let admin = self.setup.db.admin().await;
        let tenants: Vec<&str> = endpoints.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let [urls, secrets, headers] =
            [0, 1, 2].map(|i| endpoints.iter().map(|(_, v)| v[i].as_slice()).collect::<Vec<_>>());
        let save = "INSERT INTO lead_webhook.endpoints
                        (tenant_id, url_sealed, host, port, secret_sealed, secret_set_at, headers_sealed, header_names)
                    SELECT t, u, 'localhost', 443, s, now(), h, '{Authorization}'
                    FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bytea[]) AS v (t, u, s, h)";
        admin.execute(save, &[&tenants, &urls, &secrets, &headers]).await.unwrap();
        let leads =
            "INSERT INTO leads (tenant_id, email) SELECT t, t || '@example.com' FROM unnest($1::text[]) AS v (t)";
        self.setup.db.app().await.execute(leads, &[&tenants]).await.unwrap();
    }

    /// Saves the endpoints, of which the column of this number was altered, beside some that are well, and lets a daemon
    /// find what they come to.
    async fn assert_refused(&self, altered: &[(String, usize, Values)]) {
        let mut endpoints: Vec<_> =
            altered.iter().map(|(tenant, _, values)| (tenant.clone(), values.clone())).collect();
        // At the beginning, in the middle and at the end of the order in which tenants have their turn.
        let well = ["0 well", "m well", "~ well"];
        endpoints.extend(well.map(|tenant| (tenant.to_owned(), self.seal(&self.keys, tenant))));
        self.save(&endpoints).await;
        let mut daemon = self.setup.daemon();
        let rows = self.setup.db.wait_for_log(endpoints.len()).await;
        let row = |tenant: &str| rows.iter().find(|row| row.tenant_id == tenant).unwrap();
        for (tenant, i, _) in altered {
            assert_failed(row(tenant), *i);
        }
        for tenant in well {
            assert_eq!(row(tenant).status, "delivered", "{:?}", row(tenant));
        }
        // Their tenants go on being served.
        self.setup.db.insert_lead("well", "last@example.com").await;
        let rows = self.setup.db.wait_for_log(endpoints.len() + 1).await;
        let requests = self.setup.receiver.requests();
        assert_eq!((rows.len(), requests.len()), (endpoints.len() + 1, well.len() + 1));
        let secret = std::str::from_utf8(&self.plain[1]).unwrap();
        requests.iter().for_each(|request| request.verify(secret).unwrap());
        assert!(!daemon.has_ended());
        assert_says_no_secret(&daemon, secret);
    }
}

/// Nothing was sent, and the error names the part, the cause and the remedy.
fn assert_failed(row: &LogRow, column: usize) {
    let (_, failure, part) = COLUMNS[column];
    assert_eq!((row.status.as_str(), row.failure.as_deref()), ("failed", Some(failure)), "{row:?}");
    assert_eq!((row.sent_at, row.http_status), (None, None), "{row:?}");
    let error = row.error.as_deref().unwrap();
    assert!(error.contains(&format!("the stored {part}")), "{row:?}");
    assert!(error.ends_with(&format!("set the {part} anew")), "{row:?}");
}

fn assert_says_no_secret(daemon: &Process, secret: &str) {
    for line in daemon.log() {
        assert!(!line.contains("panicked") && !line.contains(secret) && !line.contains("cr3dential"), "{line}");
    }
}

#[tokio::test]
async fn a_value_with_one_bit_flipped_anywhere_sends_nothing() {
    let vault = Vault::new().await;
    let mut altered = Vec::new();
    for (i, (.., part)) in COLUMNS.into_iter().enumerate() {
        for at in 0.. {
            let tenant = format!("{part} {at}");
            let mut values = vault.seal(&vault.keys, &tenant);
            let Some(byte) = values[i].get_mut(at) else { break };
            *byte ^= 1 << (at % 8);
            altered.push((tenant, i, values));
        }
    }
    assert!(altered.len() > 150, "{}", altered.len());
    vault.assert_refused(&altered).await;
}

#[tokio::test]
async fn a_value_that_is_cut_off_anywhere_sends_nothing() {
    let vault = Vault::new().await;
    let mut altered = Vec::new();
    for (i, (.., part)) in COLUMNS.into_iter().enumerate() {
        for length in 0.. {
            let tenant = format!("{part} {length}");
            let mut values = vault.seal(&vault.keys, &tenant);
            if length == values[i].len() {
                break;
            }
            values[i].truncate(length);
            altered.push((tenant, i, values));
        }
    }
    assert!(altered.len() > 150, "{}", altered.len());
    vault.assert_refused(&altered).await;
}

#[tokio::test]
async fn a_value_of_another_tenant_or_column_or_of_another_key_sends_nothing() {
    let vault = Vault::new().await;
    let mut altered = Vec::new();
    // Two tenants whose values of a column were swapped.
    for (i, (.., part)) in COLUMNS.into_iter().enumerate() {
        let [one, two] = ["one", "two"].map(|name| format!("{part} {name}"));
        let [mut ones, mut twos] = [&one, &two].map(|tenant| vault.seal(&vault.keys, tenant));
        std::mem::swap(&mut ones[i], &mut twos[i]);
        altered.extend([(one, i, ones), (two, i, twos)]);
    }
    // Two columns of a tenant whose values were swapped; the first in the order of opening is told.
    for (i, j) in [(0, 1), (0, 2), (1, 2)] {
        let tenant = format!("{} for {}", COLUMNS[i].2, COLUMNS[j].2);
        let mut values = vault.seal(&vault.keys, &tenant);
        values.swap(i, j);
        altered.push((tenant, i, values));
    }
    // Sealed by another key, and by another one that calls itself the same.
    let [foreign, namesake] = ["foreign", "namesake"].map(|name| vault.setup.path(name));
    vault.setup.run(&["key", "generate", "--out", foreign.to_str().unwrap()]).await.ok();
    fs::copy(&foreign, &namesake).unwrap();
    let [foreign_keys, _] = [&foreign, &namesake].map(|path| KeyRing::read(path).unwrap());
    let [own, other] = [&vault.keys, &foreign_keys].map(|keys| keys.sealing_id().to_string());
    fs::write(&namesake, fs::read_to_string(&foreign).unwrap().replace(&other, &own)).unwrap();
    let namesake_keys = KeyRing::read(&namesake).unwrap();
    assert_eq!(namesake_keys.sealing_id(), vault.keys.sealing_id());
    for (name, keys) in [("foreign", &foreign_keys), ("namesake", &namesake_keys)] {
        for (i, (.., part)) in COLUMNS.into_iter().enumerate() {
            let tenant = format!("{part} {name}");
            let mut values = vault.seal(&vault.keys, &tenant);
            values[i].clone_from(&vault.seal(keys, &tenant)[i]);
            altered.push((tenant, i, values));
        }
    }
    vault.assert_refused(&altered).await;
    let named = format!("sealed by key {other}, which the key file does not hold: put that key back");
    let rows = vault.setup.db.log_rows().await;
    let foreign = rows.iter().filter(|row| row.tenant_id.ends_with("foreign"));
    assert!(foreign.clone().all(|row| row.error.as_deref().unwrap().contains(&named)), "{rows:?}");
    assert_eq!(foreign.count(), 3);
}

#[tokio::test]
async fn stored_headers_that_would_break_a_line_are_never_on_the_wire() {
    let vault = Vault::new().await;
    let headers = [
        r#"[["Authorization","a\r\nX-Evil: 1"]]"#,
        r#"[["Authorization","a\nX-Evil: 1"]]"#,
        r#"[["Authorization","a\r"]]"#,
        r#"[["Authorization","a\u0000"]]"#,
        r#"[["X-One: 1\r\nX-Evil","1"]]"#,
        r#"[["X-One\n","1"]]"#,
        r#"[["X-One: 1",""]]"#,
        r#"[["","1"]]"#,
    ];
    let mut endpoints = Vec::new();
    for (n, headers) in headers.into_iter().enumerate() {
        let tenant = format!("headers {n}");
        let mut values = vault.seal(&vault.keys, &tenant);
        let place = Place { tenant: &tenant, column: Column::EndpointHeaders };
        values[2] = vault.keys.seal(&place, headers.as_bytes()).unwrap();
        endpoints.push((tenant, values));
    }
    vault.save(&endpoints).await;
    let _daemon = vault.setup.daemon();
    for row in vault.setup.db.wait_for_log(headers.len()).await {
        assert_eq!((row.status.as_str(), row.failure.as_deref()), ("failed", Some("headers")), "{row:?}");
        assert!(row.error.as_deref().unwrap().starts_with("headers: what is stored is refused: header 1"), "{row:?}");
        assert_eq!((row.sent_at, row.http_status), (None, None), "{row:?}");
    }
    assert_eq!(vault.setup.receiver.connections().accepted, 0);
}

#[tokio::test]
async fn line_breaks_in_a_leads_values_add_no_header() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let breaks = "a\r\nX-Evil: 1\r\n\r\n";
    let insert = "INSERT INTO leads (tenant_id, email, phone, first_name, visitor_id, conversation_id)
                  VALUES ('acme', 'ann@example.com', '1', 'Ann', 'v1', 'c1'), ('acme', $1, $1, $1, $1, $1)";
    setup.db.app().await.execute(insert, &[&breaks]).await.unwrap();
    let _daemon = setup.daemon();
    setup.db.wait_for_log(2).await;
    let requests = setup.receiver.requests();
    let names = requests.iter().map(|request| request.headers.iter().map(|header| &header.0).collect::<Vec<_>>());
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0], names[1]);
}

#[tokio::test]
async fn tenant_and_operator_are_told_what_to_do_and_that_helps() {
    let vault = Vault::new().await;
    let setup = &vault.setup;
    let mut altered = Vec::new();
    for (i, (.., part)) in COLUMNS.into_iter().enumerate() {
        let mut values = vault.seal(&vault.keys, part);
        *values[i].last_mut().unwrap() ^= 1;
        altered.push((part.to_owned(), values));
    }
    vault.save(&altered).await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(3).await;
    let check = setup.run(&["check"]).await;
    assert_eq!(check.code, Some(1));
    let remedies =
        ["`lead-webhook endpoint set URL --url", "`lead-webhook secret generate secret`", "set the headers anew"];
    for (i, (_, failure, part)) in COLUMNS.into_iter().enumerate() {
        let row = rows.iter().find(|row| row.tenant_id == part).unwrap();
        assert_failed(row, i);
        let shown = setup.run(&["deliveries", "show", &row.delivery_id.to_string()]).await.ok().stdout;
        let meaning = shown.lines().find(|line| line.starts_with("meaning")).unwrap();
        assert!(meaning.contains("nothing was sent") && meaning.contains("anew"), "{shown}");
        let finding = format!("1 ({part}): deliveries are failed / {failure}: the stored {part} cannot be opened");
        let line =
            check.stdout.lines().find(|line| line.contains(&finding)).unwrap_or_else(|| panic!("{}", check.stdout));
        assert!(line.starts_with("fail"), "{line}");
        assert!(
            line.ends_with("`lead-webhook endpoint set TENANT …`, `lead-webhook secret generate TENANT`"),
            "{line}"
        );
        let test = setup.run(&["test", part]).await;
        assert_eq!(test.code, Some(1));
        for said in ["restore the row from a backup", remedies[i]] {
            assert!(test.stderr.contains(said), "{said}: {}", test.stderr);
        }
    }
    assert_eq!(setup.receiver.requests().len(), 0);
    setup.run(&["endpoint", "set", "URL", "--url", &setup.receiver.url()]).await.ok();
    setup.run(&["secret", "generate", "secret"]).await.ok();
    let header = "Authorization: Bearer another";
    let kept = setup.run(&["endpoint", "set", "headers", "--header", header]).await;
    assert_eq!(kept.code, Some(2));
    assert!(kept.stderr.contains("give --clear-headers and all of them again"), "{}", kept.stderr);
    setup.run(&["endpoint", "set", "headers", "--clear-headers", "--header", header]).await.ok();
    for (.., part) in COLUMNS {
        setup.db.insert_lead(part, "second@example.com").await;
    }
    let rows = setup.db.wait_for_log(6).await;
    assert!(rows[3..].iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 3);
    setup.run(&["check"]).await.ok();
}

#[tokio::test]
async fn an_altered_value_of_the_installation_lets_daemons_wait_until_it_is_put_right() {
    let vault = Vault::new().await;
    let setup = &vault.setup;
    let own = |sealed: &Sealed| matches!(sealed.column, Column::KeyCheck | Column::UniquenessKey);
    setup.run(&["endpoint", "set", "well", "--header", "Authorization: Bearer cr3dential"]).await.ok();
    let values: Vec<_> = Sealed::all(setup).await.into_iter().filter(own).collect();
    assert_eq!(values.len(), 2);
    let daemon = setup.daemon();
    setup.db.insert_lead("well", "first@example.com").await;
    setup.db.wait_for_log(1).await;
    drop(daemon);
    for (n, sealed) in (2..).zip(values) {
        let mut altered = sealed.value.clone();
        altered[20] ^= 0x10;
        put(setup, &sealed.place(), &altered).await;
        setup.db.insert_lead("well", &format!("{n}@example.com")).await;
        let mut daemon = setup.daemon();
        let said = daemon.wait_for_log(|line| line.contains("cannot claim")).await;
        assert!(said.contains("restore the row from a backup"), "{said}");
        let check = setup.run(&["check"]).await;
        assert_eq!(check.code, Some(1));
        assert!(check.stdout.contains("restore the row from a backup"), "{}", check.stdout);
        assert_eq!(setup.receiver.requests().len(), n - 2 + 1);
        put(setup, &sealed.place(), &sealed.value).await;
        assert_eq!(setup.db.wait_for_log(n).await[n - 1].status, "delivered");
        daemon.signal("TERM");
        assert_eq!(daemon.wait().await.code(), Some(0));
    }
    assert_eq!(setup.receiver.requests().len(), 3);
}
