//! A client of the admin API, as a host application's settings page would have one.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
};

use serde_json::{Value, json};

use super::{Process, Setup, canary};

/// The operator's token in every test.
pub const OPERATOR: &str = "operator-token-of-a-test-0123456789abcdef";

/// Where the tenant's endpoint is.
pub const ENDPOINT: &str = "/v1/tenants/acme/endpoint";

/// An installation whose daemon answers the API.
pub struct Admin {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The daemon.
    pub daemon: Process,
}

/// An installation with the API; nobody has an endpoint yet.
pub async fn administered() -> (Setup, Admin) {
    let setup = Setup::new().await;
    let admin = Admin::start(&setup).await;
    (setup, admin)
}

/// The same, with an endpoint of `acme` that takes leads; its version.
pub async fn with_endpoint() -> (Setup, Admin, String) {
    let (setup, admin) = administered().await;
    setup.endpoint("acme").await;
    let version = admin.operator("GET", ENDPOINT, None).with(200).header("etag").unwrap().to_owned();
    (setup, admin, version)
}

/// An answer.
#[derive(Debug)]
pub struct Answered {
    /// The HTTP status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; null where it is no JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Answered {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same answer, which must have this status.
    #[track_caller]
    pub fn with(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The pointers and parameters of `errors`, in their order.
    pub fn faulty(&self) -> Vec<String> {
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        let place = |error: &Value| error["pointer"].as_str().or(error["parameter"].as_str()).unwrap_or("?").to_owned();
        errors.iter().map(place).collect()
    }
}

impl Admin {
    /// Starts the daemon of `setup` with the API.
    pub async fn start(setup: &Setup) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = setup.path("admin-token");
        fs::write(&file, format!("{OPERATOR}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        canary::plant(OPERATOR);
        setup.edit_config(&[("admin.listen", json!(format!("127.0.0.1:{port}"))), ("admin.token_file", json!(file))]);
        let daemon = setup.daemon();
        daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
        Self { port, daemon }
    }

    /// Where its page is.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// A request by `token`, with further headers.
    pub fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answered {
        let mut all = vec![("Authorization", format!("Bearer {token}"))];
        all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            all.push(("Content-Type", "application/json".to_owned()));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        self.raw(method, path, &all, body.as_bytes())
    }

    /// A request by the operator.
    pub fn operator(&self, method: &str, path: &str, body: Option<&Value>) -> Answered {
        self.ask(OPERATOR, method, path, &[], body)
    }

    /// A token of the tenant, minted by the operator.
    pub fn token(&self, tenant: &str) -> String {
        let minted = self.operator("POST", &format!("/v1/tenants/{tenant}/token"), Some(&json!({}))).with(201);
        let token = minted.body["token"].as_str().unwrap();
        canary::plant(token);
        token.to_owned()
    }

    /// A request as it is given; `Host` goes without saying.
    pub fn raw(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Answered {
        self.send(method, path, headers, body).answer()
    }

    /// The same, without waiting for its answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Sent {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: localhost:{}\r\n", self.port);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // It may have answered, and closed, before it has all of a body that is too long.
        let _ = stream.write_all(body);
        Sent(stream)
    }
}

/// A request that waits for its answer; dropped, it goes away.
pub struct Sent(TcpStream);

impl Sent {
    /// Its answer.
    #[track_caller]
    pub fn answer(mut self) -> Answered {
        let mut answer = Vec::new();
        let _ = self.0.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Answered { status, headers, body: serde_json::from_str(body).unwrap_or(Value::Null), text: body.to_owned() }
    }
}
