//! Where an upstream is and how we get in: what an operator writes down, and what of it cannot be.
//!
//! Secrets stay in files: what is here may be shown to anybody. Faults name the field, so that the
//! error of a configuration file can.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest URL.
const URL_BYTES_MAX: usize = 1_024;
/// What a password file may have: a token is far below.
pub(super) const SECRET_BYTES_MAX: u64 = 4_096;

/// An upstream git server, for one of the two repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    /// `https://…` or `ssh://…`; `http://…` to this machine only.
    pub url: String,
    /// The user, where the server asks for a password.
    pub user: Option<String>,
    /// File with his password or token, read at each use: it may change meanwhile.
    pub password_file: Option<PathBuf>,
    /// Certificates that the server's own is checked against, PEM; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// The ssh key.
    pub key_file: Option<PathBuf>,
    /// The server's keys, as `ssh-keyscan` prints them; no other is believed.
    pub known_hosts_file: Option<PathBuf>,
    /// The proxy in front of it, `http://HOST:PORT` or `https://…`, which asks for no password.
    pub proxy: Option<String>,
    /// A fetch or push that takes longer is ended.
    pub timeout: Duration,
}

/// A field that cannot be so, and why.
pub type FieldFault = (&'static str, String);

/// How a URL is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
    Ssh,
}

impl UpstreamSpec {
    /// What of it cannot be, whatever this machine has.
    #[must_use]
    pub fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        let mut fault = |field: &'static str, why: String| faults.push((field, why));
        let scheme = match parse(&self.url) {
            Ok(scheme) => Some(scheme),
            Err(why) => {
                fault("url", why);
                None
            }
        };
        for (field, file) in self.files() {
            let fine = |text: &str| {
                text.starts_with('/') && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._+@=,-".contains(c))
            };
            // it is handed to a shell and to ssh's own way of reading options
            if !file.to_str().is_some_and(fine) {
                fault(field, "must be an absolute path of letters, digits and / . _ + @ = , -".to_owned());
            }
        }
        let asks = |there: bool, text: &str| (!there).then(|| text.to_owned());
        let none = |there: bool, text: &str| there.then(|| text.to_owned());
        let of_ssh = "is of ssh://, and the url is not";
        let of_http = "is of https://, and the url is not";
        let odd: Vec<(&'static str, Option<String>)> = match scheme {
            None => vec![],
            Some(Scheme::Ssh) => vec![
                (
                    "user",
                    none(self.user.is_some(), "is of https://; for ssh it stands in the url: ssh://git@host/path"),
                ),
                ("password_file", none(self.password_file.is_some(), of_http)),
                ("ca_file", none(self.ca_file.is_some(), of_http)),
                ("proxy", none(self.proxy.is_some(), of_http)),
                ("key_file", asks(self.key_file.is_some(), "is missing: ssh:// needs a key without a passphrase")),
                (
                    "known_hosts_file",
                    asks(self.known_hosts_file.is_some(), "is missing: the server's key is checked, see ssh-keyscan"),
                ),
            ],
            Some(scheme) => vec![
                ("ca_file", none(self.ca_file.is_some() && scheme == Scheme::Http, of_http)),
                // it would read and change all of it, and the server is on this machine
                ("proxy", none(self.proxy.is_some() && scheme == Scheme::Http, of_http)),
                ("proxy", self.proxy.as_deref().and_then(proxy_fault)),
                ("key_file", none(self.key_file.is_some(), of_ssh)),
                ("known_hosts_file", none(self.known_hosts_file.is_some(), of_ssh)),
                (
                    "user",
                    asks(
                        self.user.is_some() || self.password_file.is_none(),
                        "is missing: password_file has a password",
                    ),
                ),
                (
                    "password_file",
                    asks(self.password_file.is_some() || self.user.is_none(), "is missing: a user has a password"),
                ),
            ],
        };
        odd.into_iter().filter_map(|(field, why)| Some((field, why?))).for_each(|(field, why)| fault(field, why));
        let plain = |user: &String| !user.is_empty() && user.len() <= 256 && !user.contains(char::is_control);
        if !self.user.as_ref().is_none_or(plain) {
            fault("user", "must be 1 to 256 characters in one line".to_owned());
        }
        faults
    }

    /// What of it cannot be on this machine: files that are not there, programs that are missing.
    #[must_use]
    pub fn faults_here(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        for (field, file) in self.files() {
            match fs::metadata(file) {
                Err(error) => faults.push((field, format!("{}: {error}", file.display()))),
                Ok(meta) if !meta.is_file() => faults.push((field, format!("{} is not a file", file.display()))),
                Ok(meta) if matches!(field, "password_file" | "key_file") && meta.mode() & 0o077 != 0 => {
                    faults.push((field, format!("{} can be read by others; chmod 600", file.display())));
                }
                Ok(meta) if field == "password_file" && (meta.len() == 0 || meta.len() > SECRET_BYTES_MAX) => {
                    faults.push((field, format!("{} must have 1 to {SECRET_BYTES_MAX} bytes", file.display())));
                }
                Ok(_) => {}
            }
        }
        let ssh = matches!(parse(&self.url), Ok(Scheme::Ssh));
        for (program, package) in [("git", "git"), ("ssh", "openssh-client")] {
            let there = super::command::PATH.split(':').any(|dir| Path::new(dir).join(program).is_file());
            if !there && (ssh || program == "git") {
                faults.push(("url", format!("needs the program {program}: apt-get install {package}")));
            }
        }
        faults
    }

    fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [
            ("password_file", &self.password_file),
            ("ca_file", &self.ca_file),
            ("key_file", &self.key_file),
            ("known_hosts_file", &self.known_hosts_file),
        ];
        all.into_iter().filter_map(|(field, file)| Some((field, file.as_ref()?)))
    }
}

fn parse(url: &str) -> Result<Scheme, String> {
    let refuse = |why: &dyn Display| Err(why.to_string());
    if url.len() > URL_BYTES_MAX {
        return refuse(&format!("is longer than {URL_BYTES_MAX} bytes"));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse(&"must be https://HOST/PATH or ssh://USER@HOST/PATH (instead of USER@HOST:PATH)");
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/._~@:+%=,-[]".contains(c);
    if let Some(odd) = rest.chars().find(|c| !allowed(*c)) {
        return refuse(&format!("contains {odd:?}; allowed are letters, digits and / . _ ~ @ : + % = , - [ ]"));
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user), host));
    if host.is_empty() || host.starts_with(['-', ':']) || path.is_empty() || path.contains("..") {
        return refuse(&"must name a host and a path on it");
    }
    match (scheme, user) {
        (_, Some(user)) if user.contains(':') => refuse(&"holds a password; put it into a file (password_file)"),
        ("ssh", Some(user)) if user.is_empty() || user.starts_with('-') => refuse(&"has an odd user"),
        ("ssh", _) => Ok(Scheme::Ssh),
        ("https" | "http", Some(_)) => refuse(&"holds a user; write him as user = \"...\""),
        ("https", None) => Ok(Scheme::Https),
        ("http", None) if here(host) => Ok(Scheme::Http),
        ("http", None) => refuse(&"must be https://: over http:// anybody on the way reads and changes it"),
        _ => refuse(&"must begin with https:// or ssh://"),
    }
}

/// What of a proxy's URL cannot be.
fn proxy_fault(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let plain = |host: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        !host.is_empty() && host.chars().all(allowed) && !host.starts_with(['-', ':', '.'])
    };
    match rest {
        _ if url.len() > URL_BYTES_MAX => Some(format!("is longer than {URL_BYTES_MAX} bytes")),
        // the environment of git would have it, and git would ask us for the upstream's in its place
        Some(rest) if rest.contains('@') => {
            Some("must not have a user: a proxy with a password is not served".to_owned())
        }
        Some(rest) if plain(rest.strip_suffix('/').unwrap_or(rest)) => None,
        _ => Some("must be http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

/// Whether a host is this machine.
fn here(host: &str) -> bool {
    let name = if host.starts_with('[') { host.split_inclusive(']').next() } else { host.split(':').next() };
    name.is_some_and(|name| {
        let ip = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str) -> UpstreamSpec {
        UpstreamSpec {
            url: url.into(),
            user: None,
            password_file: None,
            ca_file: None,
            key_file: None,
            known_hosts_file: None,
            proxy: None,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn urls() {
        for (url, scheme) in [
            ("https://git.example.org/straas/config.git", Scheme::Https),
            ("https://git.example.org:8443/x", Scheme::Https),
            ("ssh://git@git.example.org:2222/~ops/config.git", Scheme::Ssh),
            ("http://127.0.0.1:3000/x.git", Scheme::Http),
            ("http://[::1]:3000/x.git", Scheme::Http),
            ("http://localhost/x.git", Scheme::Http),
        ] {
            assert_eq!(parse(url), Ok(scheme), "{url}");
        }
        for (url, part) in [
            ("git@host:path", "ssh://USER@HOST/PATH"),
            ("https://me:secret@host/x", "password_file"),
            ("ssh://me:secret@host/x", "password_file"),
            ("https://me@host/x", "user = "),
            ("http://git.example.org/x", "https://"),
            ("http://127.0.0.1.example.org/x", "https://"),
            ("file:///srv/x", "host"),
            ("file://srv/x", "https://"),
            ("ext::sh -c true", "ssh://USER@HOST/PATH"),
            ("ssh://-oProxyCommand=x/y", "host"),
            ("ssh://-l@host/y", "odd user"),
            ("https://host", "path"),
            ("https://host/a b", "contains"),
            ("https://host/a?token=x", "contains"),
            ("https://host/../x", "path"),
        ] {
            let why = parse(url).expect_err(url);
            assert!(why.contains(part) && !why.contains("secret"), "{url}: {why}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named_by_its_field() {
        let fields = |spec: &UpstreamSpec| spec.faults().into_iter().map(|(field, _)| field).collect::<Vec<_>>();
        let file = Some(PathBuf::from("/etc/straas/x"));
        let https = spec("https://h/x");
        let ssh = spec("ssh://git@h/x");
        assert_eq!(fields(&https), [""; 0]);
        assert_eq!(fields(&ssh), ["key_file", "known_hosts_file"]);
        let whole = UpstreamSpec { key_file: file.clone(), known_hosts_file: file.clone(), ..ssh };
        assert_eq!(fields(&whole), [""; 0]);
        assert_eq!(
            fields(&UpstreamSpec { ca_file: file.clone(), user: Some("x".into()), ..whole }),
            ["user", "ca_file"]
        );
        assert_eq!(fields(&UpstreamSpec { user: Some("x".into()), ..https.clone() }), ["password_file"]);
        assert_eq!(fields(&UpstreamSpec { password_file: file.clone(), ..https.clone() }), ["user"]);
        assert_eq!(fields(&UpstreamSpec { key_file: file.clone(), ..https.clone() }), ["key_file"]);
        assert_eq!(fields(&UpstreamSpec { ca_file: file, ..spec("http://localhost/x") }), ["ca_file"]);
        let by = |proxy: &str, spec: &UpstreamSpec| fields(&UpstreamSpec { proxy: Some(proxy.into()), ..spec.clone() });
        for fine in ["http://proxy.example.org:3128", "https://[fd00::1]:8443/", "http://proxy"] {
            assert_eq!(by(fine, &https), [""; 0], "{fine}");
        }
        for odd in [
            "proxy:3128",
            "socks5://proxy:1080",
            "http://me:secret@proxy",
            "http://me@proxy",
            "http://",
            "http://a/b",
            "http://a b",
            "http://-x",
        ] {
            assert_eq!(by(odd, &https), ["proxy"], "{odd}");
        }
        assert_eq!(by("http://proxy:3128", &spec("http://localhost/x")), ["proxy"]);
        assert!(by("http://proxy:3128", &spec("ssh://git@h/x")).contains(&"proxy"));
        for odd in ["x", "/a b", "/a'b", "/a%h"] {
            assert_eq!(fields(&UpstreamSpec { ca_file: Some(odd.into()), ..https.clone() }), ["ca_file"], "{odd}");
        }
    }
}
