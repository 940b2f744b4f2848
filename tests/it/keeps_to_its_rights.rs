//! What the daemon's login may do, read from the server's own catalog: its list, and nothing beyond.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::{Cluster, Database, Receiver, Setup};

/// Relations of ours, and what may be done to them as a whole.
const OURS: [(&str, &str); 30] = [
    ("bell", "SELECT"),
    ("bell", "UPDATE"),
    ("deliveries", "DELETE"),
    ("deliveries", "INSERT"),
    ("deliveries", "SELECT"),
    ("deliveries", "UPDATE"),
    ("endpoint_switches", "INSERT"),
    ("endpoint_switches", "SELECT"),
    ("endpoints", "DELETE"),
    ("endpoints", "INSERT"),
    ("endpoints", "SELECT"),
    ("endpoints", "UPDATE"),
    ("installation", "SELECT"),
    ("instances", "DELETE"),
    ("instances", "INSERT"),
    ("instances", "SELECT"),
    ("instances", "UPDATE"),
    ("log_edge", "INSERT"),
    ("log_edge", "SELECT"),
    ("log_edge", "UPDATE"),
    ("migrations", "SELECT"),
    ("missed", "SELECT"),
    ("muted", "SELECT"),
    ("outbox", "DELETE"),
    ("outbox", "INSERT"),
    ("outbox", "SELECT"),
    ("outbox", "UPDATE"),
    ("swept", "INSERT"),
    ("swept", "SELECT"),
    ("swept", "UPDATE"),
];

/// Of the uniqueness keys the same as of the outbox.
const KEYS: [(&str, &str); 4] =
    [("uniqueness", "DELETE"), ("uniqueness", "INSERT"), ("uniqueness", "SELECT"), ("uniqueness", "UPDATE")];

/// Of the application's table: the columns that are mapped, to read.
const LEADS: [&str; 9] = [
    "conversation_id",
    "created_at",
    "email",
    "first_name",
    "id",
    "last_conversation_at",
    "phone",
    "tenant_id",
    "visitor_id",
];

const RELATIONS: &str = "
SELECT c.relname::text, p.privilege
FROM pg_class c CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
  AND has_table_privilege($1, c.oid, p.privilege)
UNION ALL
SELECT c.relname::text, p.privilege
FROM pg_class c CROSS JOIN unnest(ARRAY['SELECT', 'UPDATE', 'USAGE']) p (privilege)
WHERE c.relkind = 'S' AND has_sequence_privilege($1, c.oid, p.privilege)";

const COLUMNS: &str = "
SELECT a.attname::text, p.privilege
FROM pg_attribute a CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p (privilege)
WHERE a.attrelid = 'leads'::regclass AND a.attnum > 0 AND has_column_privilege($1, a.attrelid, a.attnum, p.privilege)";

/// Everything else that a login can have, each with what it is.
const BEYOND: &str = "
SELECT 'may run ' || p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'lead_webhook'::regnamespace AND has_function_privilege($1, p.oid, 'EXECUTE')
UNION ALL
SELECT 'may run as somebody else ' || p.oid::regprocedure FROM pg_proc p
WHERE p.prosecdef AND has_function_privilege($1, p.oid, 'EXECUTE')
UNION ALL
SELECT CASE d.deptype WHEN 'o' THEN 'owns ' ELSE 'is granted a right on ' END || d.classid::regclass || ' ' || d.objid
FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid AND r.rolname IN ($1, $2)
WHERE d.refclassid = 'pg_authid'::regclass AND (d.deptype = 'o' OR (d.deptype = 'a' AND d.classid <> 'pg_class'::regclass
  AND (d.classid, d.objid) <> ('pg_namespace'::regclass, 'lead_webhook'::regnamespace)))
UNION ALL
SELECT 'may create in ' || n.nspname FROM pg_namespace n
WHERE has_schema_privilege($1, n.oid, 'CREATE')
  AND NOT EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
UNION ALL
SELECT 'may create schemas' WHERE has_database_privilege($1, current_database(), 'CREATE')
UNION ALL
SELECT 'is privileged' FROM pg_roles r
WHERE r.rolname = $1 AND (r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls)
UNION ALL
SELECT 'is a member of ' || r.rolname FROM pg_roles r
WHERE r.rolname NOT IN ($1, $2) AND pg_has_role($1, r.oid, 'MEMBER')";

async fn pairs(admin: &Client, sql: &str, login: &str) -> BTreeSet<(String, String)> {
    let rows = admin.query(sql, &[&login]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn the_daemons_login_may_do_what_it_does_and_nothing_beyond() {
    let setup = Setup::new().await;
    let admin = setup.db.admin().await;
    let login = setup.db.daemon_login.as_str();
    let owned = |(relation, privilege): (&str, &str)| (relation.to_owned(), privilege.to_owned());
    let expected: BTreeSet<_> = OURS.into_iter().chain(KEYS).map(owned).collect();
    assert_eq!(pairs(&admin, RELATIONS, login).await, expected);
    let expected: BTreeSet<_> = LEADS.into_iter().map(|column| owned((column, "SELECT"))).collect();
    assert_eq!(pairs(&admin, COLUMNS, login).await, expected);
    let beyond = admin.query(BEYOND, &[&login, &setup.db.daemon_role]).await.unwrap();
    let beyond: Vec<String> = beyond.iter().map(|row| row.get(0)).collect();
    assert!(beyond.is_empty(), "{beyond:?}");
}

/// What `check` says of the login beyond its rights: the verdict, what it found and the remedy, a line each.
async fn said_of_the_login(setup: &Setup) -> Vec<(String, String, String)> {
    let stdout = setup.run(&["check", "--json"]).await.stdout;
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .filter(|line| line["what"] == "rights")
        .skip(1)
        .map(|line| (text(&line["verdict"]), text(&line["finding"]), text(&line["remedy"])))
        .collect()
}

#[tokio::test]
async fn a_login_that_could_do_more_is_warned_about_and_the_remedy_ends_it() {
    let setup = Setup::new().await;
    let admin = setup.db.admin().await;
    let (login, daemon, owner, app) =
        (&setup.db.daemon_login, &setup.db.daemon_role, &setup.db.owner_role, &setup.db.app_login);
    let group = format!("group_of_{login}");
    for (grant, found, mostly) in [
        (format!("ALTER ROLE {login} SUPERUSER"), "is a superuser", 1),
        (format!("ALTER ROLE {login} CREATEROLE REPLICATION BYPASSRLS"), "may create roles", 3),
        (format!("GRANT {owner} TO {login}"), "owns our tables", 1),
        (format!("GRANT {app} TO {login}"), "owns the leads table", 1),
        (format!("GRANT pg_read_all_data TO {daemon}"), "may read every table", 1),
        (format!("GRANT pg_write_all_data, pg_write_server_files TO {login}"), "may write to every table", 2),
        (format!("CREATE ROLE {group} ROLE {login}; GRANT postgres TO {group}"), "is a superuser", 1),
    ] {
        admin.batch_execute(&grant).await.unwrap();
        let said = said_of_the_login(&setup).await;
        assert_eq!(said.len(), mostly, "{grant}: {said:?}");
        assert!(said.iter().all(|(verdict, ..)| verdict == "warn"), "{said:?}");
        assert!(said.iter().any(|(_, finding, _)| finding.contains(found)), "{grant}: {said:?}");
        for (.., remedy) in said {
            admin.batch_execute(&remedy).await.unwrap_or_else(|error| panic!("{remedy}: {error:?}"));
        }
        let [(verdict, ..)] = &said_of_the_login(&setup).await[..] else { panic!("{grant} has left something") };
        assert_eq!(verdict, "ok", "{grant}");
    }
    admin.batch_execute(&format!("DROP ROLE {group}")).await.unwrap();
}

#[tokio::test]
async fn the_servers_first_superuser_and_the_tables_owner_are_told_to_make_way_for_a_login_of_the_daemons_own() {
    let setup = Setup::new().await;
    for (login, found) in [("postgres", "is a superuser"), (setup.db.app_login.as_str(), "owns the leads table")] {
        setup.edit_config(&[("database.url", json!(setup.db.url(login)))]);
        let said = said_of_the_login(&setup).await;
        let (verdict, finding, remedy) = &said[0];
        assert!(verdict == "warn" && finding.contains(found), "{said:?}");
        assert!(remedy.contains(&format!("GRANT \"{}\" TO lead_webhook;", setup.db.daemon_role)), "{remedy}");
    }
}

#[tokio::test]
async fn nothing_that_the_leads_tables_owner_has_written_runs_by_the_administrators_rights() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    setup
        .db
        .app()
        .await
        .batch_execute(
            "CREATE FUNCTION public.watched(value anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN
                 IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE 'by a superuser'; END IF;
                 RETURN value;
             END $$;
             INSERT INTO leads (tenant_id, email, created_at) VALUES ('acme', 'ann@example.com', now() + interval '2 hours')",
        )
        .await
        .unwrap();
    let admin = setup.db.admin().await;
    assert!(admin.execute("SELECT public.watched(''::text)", &[]).await.is_err(), "it does watch");
    setup.edit_config(&[
        ("leads.columns.email", json!("sql: public.watched(lead.email)")),
        ("leads.columns.first_name", json!("sql: public.watched('Ann'::text)")),
        ("leads.columns.captured_at", json!("sql: public.watched(lead.created_at)")),
    ]);
    let runs = async |args: &[&str]| {
        let said = setup.run(args).await.ok().stderr;
        assert!(!said.contains("not possible") && !said.contains("cannot be looked for"), "{said}");
        said
    };
    runs(&["migrate"]).await;
    let is_noted = "SELECT leads_since > now() + interval '1 hour' FROM lead_webhook.installation";
    assert!(admin.query_one(is_noted, &[]).await.unwrap().get::<_, bool>(0), "the leads were looked at");
    let seeded = runs(&["seed"]).await;
    assert!(seeded.contains("1 leads read, 1 keys written"), "{seeded}");
    runs(&["migrate"]).await;
    admin.batch_execute("UPDATE lead_webhook.installation SET database_name = 'another'").await.unwrap();
    for args in [&["adopt", "--discard-queue"][..], &["key", "rotate"], &["uninstall"]] {
        runs(args).await;
    }
}

/// Functions of somebody's that tell whether they ever ran, also where that was rolled back.
const WATCHING: &str = "
CREATE SEQUENCE public.runs;
CREATE FUNCTION public.ran(value anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM nextval('public.runs'); RETURN value; END $$;
CREATE FUNCTION public.ran() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM nextval('public.runs'); RETURN NEW; END $$;";

const HAS_RUN: &str = "SELECT is_called FROM public.runs";

#[tokio::test]
async fn what_somebody_has_put_into_our_schema_is_found_before_it_runs_by_the_administrators_rights() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let admin = setup.db.admin().await;
    let app = &setup.db.app_login;
    admin.batch_execute(&format!("{WATCHING} ALTER FUNCTION public.ran() OWNER TO {app}")).await.unwrap();
    // Code in a trigger of ours runs by the owner role's rights.
    for (planted, found) in [
        (
            "CREATE TRIGGER t BEFORE UPDATE ON lead_webhook.installation FOR EACH ROW EXECUTE FUNCTION public.ran()",
            "trigger t on installation",
        ),
        ("CREATE RULE r AS ON INSERT TO lead_webhook.muted DO ALSO SELECT public.ran(1)", "rule r on muted"),
        ("CREATE POLICY p ON lead_webhook.endpoints USING (public.ran(true))", "policy p on endpoints"),
        (
            "ALTER TABLE lead_webhook.installation ADD CHECK (public.ran(true)) NOT VALID",
            "function public.ran(anyelement) in installation",
        ),
        (
            "ALTER TABLE lead_webhook.swept ALTER missed SET DEFAULT public.ran(1)",
            "function public.ran(anyelement) in swept",
        ),
        ("CREATE INDEX i ON lead_webhook.instances (public.ran(host))", "function public.ran(anyelement) in i"),
        (
            "CREATE TABLE public.heir () INHERITS (lead_webhook.endpoints)",
            "table public.heir, which inherits from endpoints",
        ),
        (
            "CREATE OR REPLACE FUNCTION lead_webhook.note_endpoint_switch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "trigger note_endpoint_switch on endpoints",
        ),
        (
            "ALTER TABLE lead_webhook.migrations RENAME TO before;
          CREATE VIEW lead_webhook.migrations AS SELECT * FROM lead_webhook.before WHERE public.ran(true)",
            "migrations, which is no table",
        ),
    ] {
        admin.batch_execute(planted).await.unwrap();
        let refused = setup.run(&["migrate", "--dry-run"]).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(found), "{planted}: {}", refused.stderr);
    }
    let has_run = async || admin.query_one(HAS_RUN, &[]).await.unwrap().get::<_, bool>(0);
    admin.batch_execute("SELECT public.ran(1)").await.unwrap();
    assert!(has_run().await, "it does tell");
    admin.batch_execute("ALTER SEQUENCE public.runs RESTART").await.unwrap();
    for args in
        [&["migrate"][..], &["migrate", "--dry-run"], &["uninstall"], &["adopt", "--keep-queue"], &["key", "rotate"]]
    {
        let refused = setup.run(args).await;
        assert!(
            refused.code == Some(1) && refused.stderr.contains("not lead-webhook's"),
            "{args:?}: {}",
            refused.stderr
        );
    }
    assert!(!has_run().await);
    let check = setup.run(&["check"]).await;
    assert!(check.code == Some(1) && check.stdout.contains("migrations, which is no table"), "{}", check.stdout);
}

#[tokio::test]
async fn a_schema_that_somebody_made_before_us_is_not_looked_into() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    let admin = setup.db.admin().await;
    let app = &setup.db.app_login;
    admin.batch_execute(WATCHING).await.unwrap();
    let planted = format!(
        "GRANT USAGE ON SEQUENCE public.runs TO {app};
         CREATE SCHEMA lead_webhook AUTHORIZATION {app};
         SET ROLE {app};
         CREATE TABLE lead_webhook.installation (leads_since timestamptz, mapped text);
         CREATE VIEW lead_webhook.migrations AS
             SELECT 1 AS version, ''::text AS name, ''::text AS checksum WHERE public.ran(false);
         RESET ROLE"
    );
    admin.batch_execute(&planted).await.unwrap();
    for args in [&["migrate", "--dry-run"][..], &["migrate"]] {
        let refused = setup.run(args).await;
        assert!(
            refused.code == Some(1) && refused.stderr.contains(&format!("which is of role {app}")),
            "{}",
            refused.stderr
        );
    }
    assert!(!admin.query_one(HAS_RUN, &[]).await.unwrap().get::<_, bool>(0));
}
