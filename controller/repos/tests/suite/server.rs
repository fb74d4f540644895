//! Real git servers for tests: `git http-backend` behind a small CGI server, over HTTP or TLS, with a
//! password; and `sshd`. They can go away, hang, and lose the answer to what they have done.
//!
//! Included by the tests of the controller as well.

// of two test binaries each uses its part
#![allow(clippy::unwrap_used, dead_code)]

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use straas_repos::UpstreamSpec;

pub const USER: &str = "straas";
pub const PASSWORD: &str = "s3cret-of-the-test";

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// It answers.
    Well,
    /// It takes connections and says nothing.
    Hangs,
    /// It does what it is asked to, and its answer to a push is lost.
    LosesAnswers,
    /// It ends.
    Gone,
}

/// `git http-backend` over HTTP. Holds bare repositories below a folder.
pub struct Http {
    root: PathBuf,
    port: u16,
    mood: Arc<AtomicU8>,
    tls: Option<Arc<ServerConfig>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub fn run(dir: &Path, program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Jo").env(format!("GIT_{who}_EMAIL"), "jo@example.org");
    }
    let done = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Writes a file that only its owner reads.
pub fn private(path: PathBuf, content: &str) -> PathBuf {
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// An empty bare repository below `root`.
pub fn bare(root: &Path, name: &str) -> PathBuf {
    std::fs::create_dir_all(root).unwrap();
    run(root, "git", &["init", "-q", "--bare", "-b", "master", name]);
    root.join(name)
}

impl Http {
    /// Serves the folder `root/upstream` over plain HTTP.
    pub fn start(root: &Path) -> Self {
        Self::serving(root, None)
    }

    /// The same over TLS; the certificate of its authority is `root/ca.pem`.
    pub fn start_tls(root: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(root.join("ca.pem"), certificate.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        Self::serving(root, Some(Arc::new(config)))
    }

    fn serving(root: &Path, tls: Option<Arc<ServerConfig>>) -> Self {
        private(root.join("password"), &format!("{PASSWORD}\n"));
        let mood = Arc::new(AtomicU8::new(Mood::Gone as u8));
        let mut server = Self { root: root.join("upstream"), port: 0, mood, tls, thread: Mutex::default() };
        server.port = server.listen(0);
        server
    }

    fn listen(&self, port: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        self.mood.store(Mood::Well as u8, Ordering::SeqCst);
        let (mood, root, tls) = (self.mood.clone(), self.root.clone(), self.tls.clone());
        let thread = std::thread::spawn(move || {
            while mood.load(Ordering::SeqCst) != Mood::Gone as u8 {
                let Ok((stream, _)) = listener.accept() else {
                    // waits for: a connection: the listener does not block, so that the word to end is heard
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_nodelay(true).unwrap();
                let (mood, root, tls) = (mood.clone(), root.clone(), tls.clone());
                // a client that goes away is none of our business
                std::thread::spawn(move || match tls {
                    None => drop(connection(stream, &root, &mood)),
                    Some(tls) => {
                        let tls = ServerConnection::new(tls).unwrap();
                        drop(connection(StreamOwned::new(tls, stream), &root, &mood));
                    }
                });
            }
        });
        *self.thread.lock().unwrap() = Some(thread);
        port
    }

    pub fn be(&self, mood: Mood) {
        let before = self.mood.swap(mood as u8, Ordering::SeqCst);
        if mood == Mood::Gone {
            let thread = self.thread.lock().unwrap().take();
            thread.into_iter().for_each(|thread| thread.join().unwrap());
        } else if before == Mood::Gone as u8 {
            self.listen(self.port);
            self.mood.store(mood as u8, Ordering::SeqCst);
        }
    }

    pub fn url(&self, name: &str) -> String {
        match self.tls {
            None => format!("http://127.0.0.1:{}/{name}", self.port),
            Some(_) => format!("https://localhost:{}/{name}", self.port),
        }
    }

    pub fn spec(&self, name: &str) -> UpstreamSpec {
        let root = self.root.parent().unwrap();
        UpstreamSpec {
            url: self.url(name),
            user: Some(USER.into()),
            password_file: Some(root.join("password")),
            ca_file: self.tls.as_ref().map(|_| root.join("ca.pem")),
            key_file: None,
            known_hosts_file: None,
            proxy: None,
            timeout: Duration::from_secs(20),
        }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.mood.store(Mood::Gone as u8, Ordering::SeqCst);
    }
}

/// Answers requests until the client has no more.
fn connection(stream: impl Read + Write, root: &Path, mood: &AtomicU8) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let same = |line: &&String| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
            head.iter().find(same).map(|line| line[name.len() + 1..].trim().to_owned())
        };
        let body = match header("content-length") {
            Some(length) => {
                let mut body = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut body)?;
                body
            }
            None if header("transfer-encoding").is_some() => chunks(&mut stream)?,
            None => Vec::new(),
        };
        while mood.load(Ordering::SeqCst) == Mood::Hangs as u8 {
            // waits for: the test to say that the server hangs no more
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut words = head[0].split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let expected = {
            use base64::Engine as _;
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}")))
        };
        let out = stream.get_mut();
        if header("authorization").as_deref() != Some(expected.as_str()) {
            out.write_all(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\n\r\n",
            )?;
            out.flush()?;
            continue;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut cgi = Command::new("git");
        cgi.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
        cgi.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
        cgi.env("REMOTE_USER", USER).env("REMOTE_ADDR", "127.0.0.1").env("CONTENT_LENGTH", body.len().to_string());
        for (name, variable) in [
            ("content-type", "CONTENT_TYPE"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
        ] {
            if let Some(value) = header(name) {
                cgi.env(variable, value);
            }
        }
        let mut cgi = cgi.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut stdin = cgi.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let answer = cgi.wait_with_output()?.stdout;
        feeder.join().unwrap();
        let lost = mood.load(Ordering::SeqCst);
        if lost == Mood::Gone as u8 || lost == Mood::LosesAnswers as u8 && path.ends_with("/git-receive-pack") {
            return Ok(());
        }
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
        let said = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = said.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
        let body = answer.get(end + 4..).unwrap_or_default();
        let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("Status:")).collect();
        write!(out, "HTTP/1.1 {status}\r\n{}\r\nContent-Length: {}\r\n\r\n", said.join("\r\n"), body.len())?;
        out.write_all(body)?;
        out.flush()?;
    }
}

fn chunks(stream: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// An sshd of one test, with keys of its own.
pub struct Ssh {
    child: Child,
    port: u16,
    root: PathBuf,
    user: String,
}

impl Ssh {
    pub fn start(root: &Path) -> Self {
        for name in ["host", "user", "other"] {
            run(root, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", name]);
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        std::fs::copy(root.join("user.pub"), root.join("authorized")).unwrap();
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nStrictModes no\n\
             UsePAM no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin \
             prohibit-password\nAcceptEnv GIT_PROTOCOL\n",
            root.display()
        );
        let config = private(root.join("sshd_config"), &text);
        // root's sshd wants its empty folder, which a machine without a running one lacks
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(config).stderr(std::fs::File::create(root.join("sshd.log")).unwrap());
        let child = sshd.spawn().expect("sshd starts: apt-get install openssh-server");
        for (name, key) in [("known", "host"), ("known-other", "other")] {
            let key = std::fs::read_to_string(root.join(format!("{key}.pub"))).unwrap();
            std::fs::write(root.join(name), format!("[127.0.0.1]:{port} {key}")).unwrap();
        }
        let user = run(root, "id", &["-un"]);
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "sshd does not come up");
            // waits for: the port of another process
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, port, root: root.to_owned(), user }
    }

    pub fn spec(&self, name: &str) -> UpstreamSpec {
        UpstreamSpec {
            url: format!("ssh://{}@127.0.0.1:{}{}/upstream/{name}", self.user, self.port, self.root.display()),
            user: None,
            password_file: None,
            ca_file: None,
            key_file: Some(self.root.join("user")),
            known_hosts_file: Some(self.root.join("known")),
            proxy: None,
            timeout: Duration::from_secs(20),
        }
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.stop();
    }
}
