//! The receiver's guide: each of its samples takes what the daemon sends, and nothing else; and the page shows the samples as
//! they are.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use lead_webhook::{
    delivery::signature::{hex_signature_with, standard_signature},
    secret::SigningSecret,
};

use crate::harness::{Answer, Request, Setup, environment, left_out, until};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/receivers");

/// A receiver of the guide's that listens.
struct Sample {
    child: Child,
    port: u16,
    told: Arc<Mutex<Vec<String>>>,
    inbox: PathBuf,
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The samples that serve, and what each needs.
const SERVERS: [(&str, &str); 5] = [
    ("receiver.mjs", "node"),
    ("receiver.py", "python3"),
    ("receiver.go", "go"),
    ("receiver.rb", "ruby"),
    ("receiver.php", "php"),
];

/// Those of them that can run here; that others are left out is said.
fn servers() -> impl Iterator<Item = &'static str> {
    let runs = |(file, program): &(&str, &str)| {
        let is_there = is_there(program);
        if !is_there {
            left_out(&format!("docs/receivers/{file}: no {program} here"));
        }
        is_there
    };
    SERVERS.into_iter().filter(runs).map(|(file, _)| file)
}

fn is_there(program: &str) -> bool {
    let flag = if program == "go" { "version" } else { "--version" };
    let found = Command::new(program).arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// The command that runs a sample on `port`.
fn command(file: &str, folder: &Path, port: u16) -> Command {
    let source = format!("{SAMPLES}/{file}");
    let mut command = match file.rsplit_once('.').unwrap().1 {
        "mjs" => Command::new("node"),
        "py" => Command::new("python3"),
        "rb" => Command::new("ruby"),
        "go" => return built(&source, folder),
        _ => {
            let mut php = Command::new("php");
            // Without a php.ini, as in containers.
            php.args(["-n", "-d", "display_errors=0", "-S", &format!("127.0.0.1:{port}")]);
            php
        }
    };
    command.arg(source);
    command
}

/// Go's own cache is kept between runs: its standard library is compiled once.
fn built(source: &str, folder: &Path) -> Command {
    let (program, cache) = (folder.join("receiver"), concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/go"));
    let build = Command::new("go")
        .args(["build", "-o", program.to_str().unwrap(), source])
        .envs([("GOCACHE", cache), ("GOFLAGS", "-mod=mod"), ("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")])
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    Command::new(program)
}

impl Sample {
    async fn start(file: &str, setup: &Setup, secrets: &Path) -> Self {
        let (folder, inbox) = (setup.path(&format!("{file}.d")), setup.path(&format!("{file}.inbox")));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&inbox).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = command(file, &folder, free)
            .env("PORT", free.to_string())
            .env("SECRET_FILE", secrets)
            .env("INBOX", &inbox)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        keep(child.stdout.take().unwrap(), &told);
        keep(child.stderr.take().unwrap(), &told);
        let sample = Self { child, port: free, told, inbox };
        until(file, || TcpStream::connect(("127.0.0.1", free)).is_ok()).await;
        sample
    }

    /// How many lines it has told that hold this word.
    fn told(&self, word: &str) -> usize {
        self.told.lock().unwrap().iter().filter(|line| line.split(' ').any(|known| known == word)).count()
    }

    /// The bodies that it has written down, in no order.
    fn kept(&self) -> HashSet<Vec<u8>> {
        let files: Vec<_> = fs::read_dir(&self.inbox).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.iter().all(|file| file.extension().is_some_and(|kind| kind == "json")), "{files:?}");
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// Its answer's status to a delivery as it was sent.
    fn take(&self, delivery: &Request) -> u16 {
        self.post(&delivery.body, &headers(delivery, delivery.header("x-wilow-signature")))
    }

    /// Its answer's status.
    fn post(&self, body: &[u8], headers: &[(String, String)]) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let _ = stream.write_all(&[head.as_bytes(), b"Connection: close\r\n\r\n", body].concat());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// Reads on, so that it never waits for somebody who does.
fn keep(stream: impl Read + Send + 'static, told: &Arc<Mutex<Vec<String>>>) {
    let told = Arc::clone(told);
    let keep = move |line| told.lock().unwrap().push(line);
    std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).for_each(keep));
}

/// A delivery's headers but those of the transport, with another signature or none.
fn headers(delivery: &Request, signature: Option<&str>) -> Vec<(String, String)> {
    let of_transport = ["host", "content-length", "connection", "accept-encoding", "x-wilow-signature"];
    let kept = delivery.headers.iter().filter(|(name, _)| !of_transport.contains(&name.to_ascii_lowercase().as_str()));
    let mut headers: Vec<_> = kept.cloned().collect();
    headers.extend(signature.map(|signature| ("X-Wilow-Signature".to_owned(), signature.to_owned())));
    headers
}

/// A daemon that has delivered two leads with more than ASCII in them, and then a Test; the deliveries, and the file of the
/// secret.
async fn delivered() -> (Setup, Vec<Request>, PathBuf) {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let secrets = setup.path("secrets");
    fs::write(&secrets, format!("{secret}\n")).unwrap();
    let _daemon = setup.daemon();
    for conversation in ["Jürgen 😀", "\"},{\u{2028}\\"] {
        let insert = "INSERT INTO leads (tenant_id, email, conversation_id) VALUES ('acme', $1, $1 || '@example.com')";
        setup.db.app().await.execute(insert, &[&conversation]).await.unwrap();
    }
    setup.db.wait_for_log(2).await;
    setup.run(&["test", "acme"]).await.ok();
    let deliveries = setup.receiver.wait_for(3).await;
    (setup, deliveries, secrets)
}

/// What must be refused: a body and a signature, and what is wrong.
fn refused(delivery: &Request, other: &Request) -> Vec<(&'static str, Vec<u8>, Option<String>)> {
    let signature = delivery.header("x-wilow-signature").unwrap();
    let hex = signature.strip_prefix("sha256=").unwrap();
    let body = || delivery.body.clone();
    let signed_by = |text: String| (body(), Some(text));
    let cases = [
        ("a changed body", ([&body()[..], b" "].concat(), Some(signature.to_owned()))),
        (
            "a body written anew",
            (
                String::from_utf8_lossy(&delivery.body).replacen("\":\"", "\": \"", 1).into_bytes(),
                Some(signature.to_owned()),
            ),
        ),
        ("another delivery's body", (other.body.clone(), Some(signature.to_owned()))),
        ("no body", (Vec::new(), Some(signature.to_owned()))),
        ("no header", (body(), None)),
        ("an empty header", signed_by(String::new())),
        ("no digits", signed_by("sha256=".to_owned())),
        ("no prefix", signed_by(hex.to_owned())),
        ("another prefix", signed_by(format!("sha1={hex}"))),
        ("a prefix in capitals", signed_by(format!("SHA256={hex}"))),
        ("digits in capitals", signed_by(format!("sha256={}", hex.to_uppercase()))),
        ("no hexadecimal", signed_by(format!("sha256={}", "z".repeat(64)))),
        ("an odd digit", signed_by(format!("{signature}0"))),
        ("a digit less", signed_by(signature.get(..70).unwrap().to_owned())),
        ("twice as long", signed_by(format!("{signature}{hex}"))),
        ("nothing but zeros", signed_by(format!("sha256={}", "0".repeat(64)))),
        ("bytes beyond ASCII", signed_by(format!("sha256={}", "é".repeat(32)))),
    ];
    cases.into_iter().map(|(what, (body, signature))| (what, body, signature)).collect()
}

#[tokio::test]
async fn each_sample_takes_what_is_sent_and_refuses_everything_else() {
    let (setup, deliveries, secrets) = delivered().await;
    for file in servers() {
        let sample = Sample::start(file, &setup, &secrets).await;
        let unfinished = ["Content-Length: 100", "Content-Length: -5", "Content-Length: \u{b2}"].map(|head| {
            let mut unfinished = TcpStream::connect(("127.0.0.1", sample.port)).unwrap();
            let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\nabc");
            let _ = unfinished.write_all(head.as_bytes());
            unfinished
        });
        for (what, body, signature) in refused(&deliveries[0], &deliveries[1]) {
            let status = sample.post(&body, &headers(&deliveries[0], signature.as_deref()));
            assert_eq!(status, 401, "{file}, {what}");
        }
        // Whatever was refused, is unfinished or went away has left it well. The same again is taken, and told as the same.
        drop(unfinished);
        for delivery in deliveries.iter().chain(&deliveries) {
            assert_eq!(sample.take(delivery), 204, "{file}");
        }
        until(file, || sample.told("again") >= 2 && sample.told("test") >= 2).await;
        let told = ["new", "again", "test"].map(|word| sample.told(word));
        assert_eq!(told, [2, 2, 2], "{file}");
        let leads = deliveries.iter().take(2).map(|delivery| delivery.body.to_vec());
        assert_eq!(sample.kept(), leads.collect(), "{file}: all but the Test");
        let endless = sample.post(&vec![b' '; 1024 * 1024 + 1], &headers(&deliveries[0], None));
        assert!([401, 413, 0].contains(&endless), "{file}: {endless}");
        assert_eq!(sample.post(&deliveries[0].body, &headers(&deliveries[0], Some("sha256="))), 401, "{file}");
    }
}

#[tokio::test]
async fn what_a_sample_cannot_write_down_it_does_not_say_to_have() {
    let (setup, deliveries, secrets) = delivered().await;
    let secret = fs::read_to_string(&secrets).unwrap();
    for file in servers() {
        let sample = Sample::start(file, &setup, &secrets).await;
        // Of a template that leaves out what names the event; each signed as it should be.
        for body in [
            "",
            "{",
            "null",
            "[]",
            r#""text""#,
            "{}",
            r#"{"leadId":"1"}"#,
            r#"{"event":"lead.created"}"#,
            r#"{"leadId":"","event":"lead.created"}"#,
            r#"{"leadId":1,"event":"lead.created"}"#,
            r#"{"leadId":null,"event":null}"#,
            r#"{"leadId":{},"event":[]}"#,
        ] {
            let signature = hex_signature_with(secret.trim().as_bytes(), body.as_bytes());
            assert_eq!(sample.post(body.as_bytes(), &headers(&deliveries[0], Some(&signature))), 422, "{file}: {body}");
        }
        let away = setup.path("away");
        for (what, path) in [("folder", &sample.inbox), ("secrets", &secrets)] {
            fs::rename(path, &away).unwrap();
            assert_eq!(sample.take(&deliveries[0]), 503, "{file} without its {what}");
            fs::rename(&away, path).unwrap();
        }
        assert!(sample.kept().is_empty(), "{file}");
        assert_eq!(sample.take(&deliveries[0]), 204, "{file}");
        assert_eq!(sample.kept(), HashSet::from([deliveries[0].body.to_vec()]), "{file}");
    }
}

#[tokio::test]
async fn of_one_lead_that_comes_many_times_at_once_a_sample_writes_down_one() {
    let (setup, deliveries, secrets) = delivered().await;
    for file in servers() {
        let sample = Sample::start(file, &setup, &secrets).await;
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_eq!(sample.take(&deliveries[0]), 204, "{file}"));
            }
        });
        until(file, || sample.told("again") >= 15).await;
        assert_eq!((sample.told("new"), sample.told("again")), (1, 15), "{file}");
        assert_eq!(sample.kept().len(), 1, "{file}");
    }
}

#[tokio::test]
async fn while_a_secret_is_rotated_a_sample_takes_both_and_afterwards_the_new_one_alone() {
    let (setup, deliveries, secrets) = delivered().await;
    let old = fs::read_to_string(&secrets).unwrap();
    for file in servers() {
        let sample = Sample::start(file, &setup, &secrets).await;
        for (accepted, status) in [
            (format!("whsec_bmV3\n{old}"), 204),
            (format!("{old}whsec_bmV3\n"), 204),
            (format!("\r\n  {}\r\n", old.trim()), 204),
            ("whsec_bmV3\n".to_owned(), 401),
        ] {
            fs::write(&secrets, &accepted).unwrap();
            assert_eq!(sample.take(&deliveries[0]), status, "{file}");
        }
        fs::write(&secrets, &old).unwrap();
    }
}

#[tokio::test]
async fn the_log_says_how_a_receiver_that_verifies_took_it() {
    if !is_there("python3") {
        return left_out("docs/receivers/receiver.py behind the daemon: no python3 here");
    }
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let secrets = setup.path("secrets");
    fs::write(&secrets, &secret).unwrap();
    let sample = Sample::start("receiver.py", &setup, &secrets).await;
    setup.receiver.answer_with(move |request| {
        Answer::status(sample.post(&request.body, &headers(request, request.header("x-wilow-signature"))))
    });
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    fs::write(&secrets, "whsec_b3RoZXI=\n").unwrap();
    setup.db.insert_leads("acme", 1).await;
    let rows = setup.db.wait_for_log(2).await;
    let told = rows.iter().map(|row| (row.status.as_str(), row.http_status)).collect::<Vec<_>>();
    assert_eq!(told, [("delivered", Some(204)), ("failed", Some(401))]);
}

#[tokio::test]
async fn the_shell_verifies_what_was_kept_in_files() {
    let (setup, deliveries, secrets) = delivered().await;
    let body = setup.path("body");
    let verify = |signature: &str| {
        let output = Command::new("sh")
            .args([
                format!("{SAMPLES}/verify.sh").as_str(),
                secrets.to_str().unwrap(),
                body.to_str().unwrap(),
                signature,
            ])
            .output()
            .unwrap();
        output.status.code() == Some(0)
    };
    let secret = fs::read_to_string(&secrets).unwrap();
    for accepted in [secret.clone(), format!("-x\r\n  {}\r\n", secret.trim())] {
        fs::write(&secrets, accepted).unwrap();
        for delivery in &deliveries {
            fs::write(&body, &delivery.body).unwrap();
            assert!(verify(delivery.header("x-wilow-signature").unwrap()));
        }
    }
    let signature = deliveries[1].header("x-wilow-signature").unwrap();
    let without_openssl = Command::new("/bin/sh")
        .args([format!("{SAMPLES}/verify.sh").as_str(), secrets.to_str().unwrap(), body.to_str().unwrap(), signature])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(without_openssl.status.code(), Some(1), "what cannot be computed is not verified");
    fs::remove_file(&body).unwrap();
    assert!(!verify("sha256=") && !verify(signature), "without a body nothing is verified");
    for (what, changed, signature) in refused(&deliveries[0], &deliveries[1]) {
        fs::write(&body, &changed).unwrap();
        assert!(!verify(signature.as_deref().unwrap_or_default()), "{what}");
    }
}

#[tokio::test]
async fn standard_webhooks_are_verified_without_a_library() {
    if !is_there("node") {
        return left_out("docs/receivers/standard.mjs: no node here");
    }
    let (setup, deliveries, secrets) = delivered().await;
    let file = setup.path("body");
    let verify = |body: &[u8], [id, timestamp, signature]: [&str; 3]| {
        fs::write(&file, body).unwrap();
        let sample = format!("{SAMPLES}/standard.mjs");
        let mut node = Command::new("node");
        node.args([&sample, secrets.to_str().unwrap(), file.to_str().unwrap(), id, timestamp, signature]);
        match String::from_utf8(node.output().unwrap().stdout).unwrap().trim() {
            "verified" => true,
            "refused" => false,
            other => panic!("{other}"),
        }
    };
    let sent = |delivery: &Request| {
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| delivery.header(name).unwrap().to_owned())
    };
    for delivery in &deliveries {
        let [id, timestamp, signature] = sent(delivery);
        assert!(verify(&delivery.body, [&id, &timestamp, &signature]));
        let several = format!("v1,AAAA v2,{signature} {signature}");
        assert!(verify(&delivery.body, [&id, &timestamp, &several]), "one of several");
    }
    let [id, timestamp, signature] = sent(&deliveries[0]);
    let body = &deliveries[0].body;
    assert!(!verify(&[body, b" ".as_slice()].concat(), [&id, &timestamp, &signature]), "a changed body");
    let at = timestamp.parse::<i64>().unwrap();
    let secret = fs::read_to_string(&secrets).unwrap();
    let key = SigningSecret::parse(secret.trim()).unwrap();
    let early = (at - 400).to_string();
    let of_then = standard_signature(&key, &id, at - 400, body);
    let (earlier, later) = ((at - 1).to_string(), format!("{timestamp}0"));
    for (what, headers) in [
        ("another id", [&deliveries[1].header("webhook-id").unwrap().to_owned(), &timestamp, &signature]),
        ("another time", [&id, &earlier, &signature]),
        ("a time long ago", [&id, &early, &of_then]),
        ("a time to come", [&id, &later, &signature]),
        ("no time", [&id, &String::new(), &signature]),
        ("a negative time", [&id, &format!("-{timestamp}"), &signature]),
        ("no number", [&id, &format!("{timestamp}e0"), &signature]),
        ("no id", [&String::new(), &timestamp, &signature]),
        ("no signature", [&id, &timestamp, &String::new()]),
        ("no scheme", [&id, &timestamp, &signature.replace("v1,", "")]),
        ("another scheme", [&id, &timestamp, &signature.replace("v1,", "v2,")]),
        ("nothing behind it", [&id, &timestamp, &"v1,".to_owned()]),
        ("a part of it", [&id, &timestamp, &signature.chars().take(20).collect()]),
    ] {
        assert!(!verify(body, headers.map(String::as_str)), "{what}");
    }
    fs::write(&secrets, "whsec_b3RoZXI=\n").unwrap();
    assert!(!verify(body, [&id, &timestamp, &signature]), "another secret");
    fs::write(&secrets, format!("whsec_b3RoZXI=\n{secret}")).unwrap();
    assert!(verify(body, [&id, &timestamp, &signature]), "one of two secrets");
}

/// The part of a sample that a page shows: between its marks, or all of it where it has none.
fn shown(file: &str) -> String {
    let text = fs::read_to_string(format!("{SAMPLES}/{file}")).unwrap();
    let marks: Vec<&str> =
        text.lines().filter(|line| line.ends_with("verify: begin") || line.ends_with("verify: end")).collect();
    let [begin, end] = marks[..] else { return text };
    text.split_once(begin).unwrap().1.split_once(end).unwrap().0.trim_matches('\n').to_owned()
}

/// Each `<!-- receivers/FILE -->` of a page stands above that file in a fence. With `LEAD_WEBHOOK_TEST_UPDATE` they are put there.
#[test]
fn the_pages_show_the_samples_as_they_are() {
    let mut found = Vec::new();
    for page in ["docs/webhook-security.md", "docs/destinations.md"] {
        let path = format!("{}/{page}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).unwrap();
        let mut parts = text.split("<!-- receivers/");
        let mut whole = parts.next().unwrap().to_owned();
        for part in parts {
            let (file, rest) = part.split_once(" -->\n").unwrap();
            let (fence, rest) = rest.split_once('\n').unwrap();
            let (_, rest) = rest.split_once("```\n").unwrap();
            whole += &format!("<!-- receivers/{file} -->\n{fence}\n{}\n```\n{rest}", shown(file).trim_end());
            found.push(file.to_owned());
        }
        let is_update = environment("LEAD_WEBHOOK_TEST_UPDATE").is_some();
        if is_update {
            fs::write(&path, &whole).unwrap();
        }
        assert!(is_update || whole == text, "{page} shows other samples: LEAD_WEBHOOK_TEST_UPDATE=yes writes it anew");
    }
    let mut files: Vec<_> =
        fs::read_dir(SAMPLES).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    found.sort();
    assert_eq!(found, files, "each sample is shown once");
}
