//! `straas component new`: the files of a new component, which work as they stand.
//!
//! A small web server stands in for the real software, so that the author changes one thing at a
//! time and can try the whole after each. Never writes over a file that is there.

use crate::error::CliError;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use straas_schemas::ids::{COMPONENT_NAME_MAX, name_fault};

/// What to write.
#[derive(clap::Args)]
pub struct Args {
    /// The name of the component type: lower-case letters, digits and -.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Where to write it; a folder of its name if absent.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// (path, text); `@TYPE@` is the type, `@CLASS@` its Puppet class.
const FILES: [(&str, &str); 15] = [
    ("README.md", include_str!("skeleton/README.md")),
    ("metadata/@TYPE@.json", include_str!("skeleton/metadata.json")),
    ("app/@TYPE@/1.0/default.json", include_str!("skeleton/default.json")),
    ("app/@TYPE@/1.0/user.json", include_str!("skeleton/user.json")),
    ("cmd/@TYPE@/default/runpuppet.sh", include_str!("skeleton/runpuppet.sh")),
    ("cmd/@TYPE@/default/validate.sh", include_str!("skeleton/validate.sh")),
    ("cmd/@TYPE@/default/start.sh", include_str!("skeleton/start.sh")),
    ("cmd/@TYPE@/default/stop.sh", include_str!("skeleton/stop.sh")),
    ("cmd/@TYPE@/default/remove.sh", include_str!("skeleton/remove.sh")),
    ("pre_config/@TYPE@", include_str!("skeleton/pre_config")),
    ("puppet/modules/@CLASS@/manifests/init.pp", include_str!("skeleton/init.pp")),
    ("puppet/modules/@CLASS@/templates/ctl.epp", include_str!("skeleton/ctl.epp")),
    ("guestcmds/@TYPE@-cmd/hello", include_str!("skeleton/hello")),
    ("guestcmds/@TYPE@-cmd/hello.json", include_str!("skeleton/hello.json")),
    (".gitattributes", "* text=auto eol=lf\n"),
];

/// Writes them and says what to do with them.
pub fn run(args: &Args) -> Result<(), CliError> {
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.kind));
    write(&args.kind, &dir)?;
    let (at, kind) = (dir.display(), &args.kind);
    anstream::println!(
        "{} files are written to {at}\ncheck them:  straas component check {at}\ntry them:    straas component test {kind} --dir {at}",
        FILES.len()
    );
    Ok(())
}

/// Writes them.
pub fn write(kind: &str, dir: &Path) -> Result<(), CliError> {
    if let Some(why) = name_fault("the type", kind, COMPONENT_NAME_MAX) {
        return Err(CliError::Input(why));
    }
    let class = kind.replace('-', "_");
    let filled = |text: &str| text.replace("@TYPE@", kind).replace("@CLASS@", &class);
    let files: Vec<(PathBuf, String)> =
        FILES.iter().map(|(path, text)| (dir.join(filled(path)), filled(text))).collect();
    if let Some((there, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(CliError::Input(format!("{} is there already; name an empty folder with --dir", there.display())));
    }
    for (path, text) in &files {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)?;
        if text.starts_with("#!") {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}
