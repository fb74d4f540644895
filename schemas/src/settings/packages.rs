//! `[packages]`: an apt repository of the operator's own, which nodes have beside what their host has.
//!
//! It comes to nodes as one file in the form that apt calls deb822, with the key inside: so source and
//! key are replaced together, and nothing in it names another place of the host. What stands in it is
//! bounded and of one line each, since the package manager of every node reads it. Never names a
//! password: settings stand in git, in plain.

use super::SettingFault;
use crate::config::Effective;
use std::sync::Arc;

/// The section.
const SECTION: &str = "packages";
/// Bytes of the address: no server has longer ones.
const URL_BYTES_MAX: usize = 512;
/// Bytes of the suite, and of all components: they are words of a path.
const WORDS_BYTES_MAX: usize = 256;
/// Bytes of the key: one with dozens of signatures and subkeys fits.
const KEY_BYTES_MAX: usize = 64 * 1024;
/// Characters of a line of it: armour has 64, some tools write 76.
const KEY_LINE_MAX: usize = 76;
const KEY_BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const KEY_END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// `[packages]`
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PackageSettings {
    /// A repository beside those that the host has; `None` leaves its apt as it is.
    pub apt: Option<Arc<AptRepository>>,
}

/// An apt repository that is signed with a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptRepository {
    /// Its address, with `http` or `https`.
    pub url: String,
    /// Its suite; one that ends with `/` is a folder, which has no components.
    pub suite: String,
    /// Its components, a blank between two.
    pub components: String,
    /// The public key that signs it, in ASCII armour.
    pub key: String,
}

impl AptRepository {
    /// What stands in a file `*.sources` of apt (1.1 and newer; the key inside needs 2.3.10).
    #[must_use]
    pub fn sources(&self) -> String {
        let Self { url, suite, components, key } = self;
        let mut text = format!("# [packages] of StraaS's settings\nTypes: deb\nURIs: {url}\nSuites: {suite}\n");
        if !components.is_empty() {
            text.push_str(&format!("Components: {components}\n"));
        }
        text.push_str("Signed-By:\n");
        for line in key.trim().lines().map(str::trim_end) {
            text.push_str(if line.is_empty() { " ." } else { " " });
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

impl PackageSettings {
    /// What values come to.
    ///
    /// # Errors
    /// Every fault.
    pub(super) fn read(values: &Effective) -> Result<Self, Vec<SettingFault>> {
        let mut faults = Vec::new();
        let mut text = |key: &'static str, wrong: fn(&str) -> Option<String>| {
            let Some(value) = values.get(SECTION).and_then(|keys| keys.get(key)) else { return String::new() };
            let text = value.as_str().map(str::trim);
            let message = match text {
                Some("") => None,
                Some(text) => wrong(text),
                None => Some("must be a text".to_owned()),
            };
            if let Some(message) = message {
                faults.push(fault(key, &format!("{key} {message}")));
            }
            text.unwrap_or_default().to_owned()
        };
        let found = AptRepository {
            url: text("apt_url", url_fault),
            suite: text("apt_suite", suite_fault),
            components: text("apt_components", components_fault),
            key: text("apt_key", key_fault),
        };
        // without an address the others say nothing: so a zone can do without the repository of all
        if found.url.is_empty() {
            return if faults.is_empty() { Ok(Self::default()) } else { Err(faults) };
        }
        for (key, value) in [("apt_suite", &found.suite), ("apt_key", &found.key)] {
            if value.is_empty() {
                faults.push(fault(key, &format!("{key} is needed where apt_url is set")));
            }
        }
        if faults.is_empty() && found.suite.ends_with('/') != found.components.is_empty() {
            let message = "apt_components is needed, unless apt_suite is a folder that ends with /, which has none";
            faults.push(fault("apt_components", message));
        }
        if faults.is_empty() { Ok(Self { apt: Some(Arc::new(found)) }) } else { Err(faults) }
    }
}

fn fault(key: &'static str, message: &str) -> SettingFault {
    SettingFault { section: SECTION, keys: vec![key], message: message.to_owned() }
}

fn url_fault(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]%+,=".contains(&b);
    match rest {
        _ if text.len() > URL_BYTES_MAX => Some(format!("has more than {URL_BYTES_MAX} bytes")),
        None | Some("") => Some("must begin with http:// or https://".to_owned()),
        Some(rest) if rest.contains('@') => Some("must not have a user or password: settings stand in git".to_owned()),
        Some(rest) if rest.starts_with('/') || !rest.bytes().all(plain) => Some("is not a plain address".to_owned()),
        Some(_) => None,
    }
}

fn suite_fault(text: &str) -> Option<String> {
    (!is_words(text) || text.contains(' ')).then(|| format!("must be one word: {WORDS}"))
}

fn components_fault(text: &str) -> Option<String> {
    let wrong = !is_words(text);
    wrong.then(|| format!("must be words with a blank between two: {WORDS}"))
}

/// What a word of a suite or component is made of, for people.
const WORDS: &str = "letters, digits and . _ - /, at most 256 bytes";

fn is_words(text: &str) -> bool {
    let word = |word: &str| {
        word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) && !word.is_empty() && word != ".."
    };
    text.len() <= WORDS_BYTES_MAX && text.split(' ').all(word) && !text.split([' ', '/']).any(|part| part == "..")
}

fn key_fault(text: &str) -> Option<String> {
    if text.len() > KEY_BYTES_MAX {
        return Some(format!("has more than {KEY_BYTES_MAX} bytes"));
    }
    let between = text.strip_prefix(KEY_BEGIN).and_then(|rest| rest.strip_suffix(KEY_END));
    let armour = between.is_some_and(|between| {
        // headers, an empty line, then base64; the packet it begins with is a public key (tag 6 in the old
        // or the new form), so that nobody gives a private one to all nodes
        let mut lines = between.lines();
        let alone = lines.next().is_some_and(|line| line.trim().is_empty());
        let headers = lines.by_ref().take_while(|line| !line.trim().is_empty()).all(|line| {
            line.len() <= KEY_LINE_MAX && line.contains(": ") && line.bytes().all(|b| (b' '..=b'~').contains(&b))
        });
        let body: Vec<&str> = lines.map(str::trim_end).collect();
        let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
        let whole = |line: &&str| (1..=KEY_LINE_MAX).contains(&line.len()) && line.bytes().all(base64);
        let first = body.first().map_or(&[][..], |line| line.as_bytes());
        alone && headers && body.iter().all(whole) && matches!(first, [b'm', ..] | [b'x', b'g'..=b'v', ..])
    });
    (!armour).then(|| "must be one public key in ASCII armour, as gpg --armor --export writes it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: a test\n\nmQGNBGc=\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n";

    fn read(url: &str, suite: &str, components: &str, key: &str) -> Result<PackageSettings, Vec<SettingFault>> {
        let keys = json!({ "apt_url": url, "apt_suite": suite, "apt_components": components, "apt_key": key });
        PackageSettings::read(&serde_json::from_value(json!({ "packages": keys })).expect("values"))
    }

    fn check(given: [&str; 4], expect: Result<Option<&str>, &[&str]>) {
        let [url, suite, components, key] = given;
        let got = read(url, suite, components, key).map(|settings| settings.apt.map(|apt| apt.sources()));
        let got = got.map_err(|faults| faults.into_iter().flat_map(|fault| fault.keys).collect::<Vec<_>>());
        assert_eq!(got, expect.map(|text| text.map(str::to_owned)).map_err(<[_]>::to_vec), "{given:?}");
    }

    #[test]
    fn a_repository_is_one_file_with_its_key() {
        let sources = "# [packages] of StraaS's settings\nTypes: deb\nURIs: https://nexus.example:8443/apt\nSuites: stable\n\
             Components: main extra\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n Comment: a test\n .\n mQGNBGc=\n =abcd\n \
             -----END PGP PUBLIC KEY BLOCK-----\n";
        check(["https://nexus.example:8443/apt", "stable", "main extra", KEY], Ok(Some(sources)));
        check(
            ["https://nexus.example:8443/apt", "stable", "main extra", &KEY.replace('\n', "\r\n")],
            Ok(Some(sources)),
        );
        let flat = read("http://[fd00::1]/apt", "./", "", KEY).expect("good").apt.expect("a repository").sources();
        assert!(flat.contains("Suites: ./\nSigned-By:\n -----BEGIN"), "{flat}");
        check(["", "", "", ""], Ok(None));
        check(["", "stable", "main", KEY], Ok(None));
        assert_eq!(PackageSettings::read(&Effective::new()), Ok(PackageSettings::default()));
    }

    #[test]
    fn what_cannot_be_is_named() {
        const URL: &str = "http://h/apt";
        for url in ["ftp://h/", "http://", "http:///x", "http://h/a b", "http://h/\nx", "http://u:p@h/", "file:/x", "h"]
        {
            check([url, "stable", "main", KEY], Err(&["apt_url"]));
        }
        check([&format!("http://h/{}", "a".repeat(512)), "stable", "main", KEY], Err(&["apt_url"]));
        for suite in ["a b", "a\nb", "../a", "a/../b/", "a;b", &"a".repeat(257)] {
            check([URL, suite, "main", KEY], Err(&["apt_suite"]));
        }
        for components in ["a  b", "a\nb", "a\tb", "..", "a,b"] {
            check([URL, "stable", components, KEY], Err(&["apt_components"]));
        }
        check([URL, "stable", "", KEY], Err(&["apt_components"]));
        check([URL, "./", "main", KEY], Err(&["apt_components"]));
        check([URL, "", "main", ""], Err(&["apt_suite", "apt_key"]));
        for key in [
            "mQGNBGc=",
            &KEY.replace("mQGNBGc=", "lQGNBGc="),
            &KEY.replace("mQGNBGc=", "xUGNBGc="),
            &KEY.replace("PUBLIC", "PRIVATE"),
            &KEY.replace("mQGNBGc=", "mQ;N"),
            &KEY.replace("mQGNBGc=", ""),
            &KEY.replace("Comment: a test\n\n", ""),
            &format!("{KEY}{KEY}"),
            &format!("{KEY}Types: deb-src"),
            &KEY.replace("mQGNBGc=", &"m".repeat(77)),
            &KEY.replace("mQGNBGc=", &"mQGN\n".repeat(14_000)),
        ] {
            check([URL, "stable", "main", key], Err(&["apt_key"]));
        }
        let wrong = serde_json::from_value(json!({ "packages": { "apt_url": 7 } })).expect("values");
        assert_eq!(PackageSettings::read(&wrong).expect_err("a fault")[0].message, "apt_url must be a text");
    }
}
