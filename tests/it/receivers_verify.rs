//! The receiver's guide: each of its samples takes what the daemon sends, and nothing else; and the page shows the samples as
//! they are.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::harness::{Answer, Request, Setup, environment, left_out, patiently};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/receivers");

/// A receiver of the guide's that listens.
struct Sample {
    child: Child,
    port: u16,
    told: Arc<Mutex<Vec<String>>>,
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
            php.args(["-S", &format!("127.0.0.1:{port}")]);
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
        let folder = setup.path(&format!("{file}.d"));
        fs::create_dir_all(&folder).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = command(file, &folder, free)
            .env("PORT", free.to_string())
            .env("SECRET_FILE", secrets)
            .env("SEEN_DIR", &folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        keep(child.stdout.take().unwrap(), &told);
        keep(child.stderr.take().unwrap(), &told);
        let sample = Self { child, port: free, told };
        patiently(file, async { while TcpStream::connect(("127.0.0.1", free)).is_err() {} }).await;
        sample
    }

    /// How many lines it has told that hold this word.
    fn told(&self, word: &str) -> usize {
        self.told.lock().unwrap().iter().filter(|line| line.split(' ').any(|known| known == word)).count()
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

/// A daemon that has delivered two leads with more than ASCII in them; the deliveries, and the file of the secret.
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
    let deliveries = setup.receiver.wait_for(2).await;
    setup.db.wait_for_log(2).await;
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
    for (file, program) in SERVERS {
        if !is_there(program) {
            left_out(&format!("docs/receivers/{file}: no {program} here"));
            continue;
        }
        let sample = Sample::start(file, &setup, &secrets).await;
        for head in ["Content-Length: 100", "Content-Length: -5", "Content-Length: \u{b2}"] {
            let mut aborted = TcpStream::connect(("127.0.0.1", sample.port)).unwrap();
            let _ = aborted.write_all(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\nabc").as_bytes());
        }
        for (what, body, signature) in refused(&deliveries[0], &deliveries[1]) {
            let status = sample.post(&body, &headers(&deliveries[0], signature.as_deref()));
            assert_eq!(status, 401, "{file}, {what}");
        }
        // Everything that was refused has left it well. The same again is taken, and told as the same by the sample.
        for delivery in deliveries.iter().chain(&deliveries) {
            let signature = delivery.header("x-wilow-signature");
            assert_eq!(sample.post(&delivery.body, &headers(delivery, signature)), 204, "{file}");
        }
        patiently(file, async { while sample.told("again") < 2 {} }).await;
        assert_eq!((sample.told("lead.created"), sample.told("again")), (2, 2), "{file}");
        let endless = sample.post(&vec![b' '; 1024 * 1024 + 1], &headers(&deliveries[0], None));
        assert!([401, 413, 0].contains(&endless), "{file}: {endless}");
        assert_eq!(sample.post(&deliveries[0].body, &headers(&deliveries[0], Some("sha256="))), 401, "{file}");
    }
}

#[tokio::test]
async fn while_a_secret_is_rotated_a_sample_takes_both_and_afterwards_the_new_one_alone() {
    let (setup, deliveries, secrets) = delivered().await;
    let old = fs::read_to_string(&secrets).unwrap();
    for (file, program) in SERVERS {
        if !is_there(program) {
            left_out(&format!("docs/receivers/{file}: no {program} here"));
            continue;
        }
        let sample = Sample::start(file, &setup, &secrets).await;
        let post =
            || sample.post(&deliveries[0].body, &headers(&deliveries[0], deliveries[0].header("x-wilow-signature")));
        for (accepted, status) in
            [(format!("whsec_bmV3\n{old}"), 204), (format!("{old}whsec_bmV3\n"), 204), ("whsec_bmV3\n".to_owned(), 401)]
        {
            fs::write(&secrets, &accepted).unwrap();
            assert_eq!(post(), status, "{file}");
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
    for delivery in &deliveries {
        fs::write(&body, &delivery.body).unwrap();
        assert!(verify(delivery.header("x-wilow-signature").unwrap()));
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
