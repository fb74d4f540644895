//! Every mistake that `component check` knows, made in a component that has none.

use super::{faults, form};
use crate::component::new;
use std::path::{Path, PathBuf};

const KIND: &str = "shop";
const META: &str = "metadata/shop.json";
const DEFAULT: &str = "app/shop/1.0/default.json";
const USER: &str = "app/shop/1.0/user.json";
const HELLO: &str = "guestcmds/shop-cmd/hello";

/// A mistake.
enum Slip {
    /// A text of a file becomes another one.
    Say(&'static str, &'static str, &'static str),
    /// A file that should be there is not.
    Lose(&'static str),
    /// A file that should not be there is.
    Add(&'static str, &'static str),
    /// A program cannot be run.
    Mode(&'static str, u32),
    /// A link stands where a file should.
    Link(&'static str),
}
use Slip::{Add, Link, Lose, Mode, Say};

fn make(slip: &Slip, dir: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    match slip {
        Say(path, from, to) => {
            let text = std::fs::read_to_string(dir.join(path)).expect("a file");
            assert!(text.contains(from), "{path} has no {from:?}:\n{text}");
            std::fs::write(dir.join(path), text.replacen(from, to, 1)).expect("written");
        }
        Lose(path) => std::fs::remove_file(dir.join(path)).expect("removed"),
        Add(path, text) => {
            let file = dir.join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(&file, text).expect("written");
        }
        Mode(path, mode) => {
            std::fs::set_permissions(dir.join(path), std::fs::Permissions::from_mode(*mode)).expect("set");
        }
        Link(path) => {
            std::fs::remove_file(dir.join(path)).expect("removed");
            std::os::unix::fs::symlink("/etc/hostname", dir.join(path)).expect("linked");
        }
    }
}

/// A component with these mistakes is told of them in these words, one fault for each.
fn check(slips: &[Slip], expect: &[&str]) {
    let told = told(slips, form);
    assert_eq!(told.len(), expect.len(), "expected {expect:#?}, told {told:#?}");
    for (line, words) in told.iter().zip(expect) {
        assert!(line.contains(words), "no {words:?} in {line:?}; told {told:#?}");
    }
}

fn told(
    slips: &[Slip],
    look: impl Fn(&[PathBuf]) -> Result<Vec<straas_repos::FileFault>, crate::error::CliError>,
) -> Vec<String> {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join(KIND);
    new::write(KIND, &dir).expect("written");
    slips.iter().for_each(|slip| make(slip, &dir));
    let found = look(std::slice::from_ref(&dir)).unwrap_or_else(|error| panic!("{}", error.text()));
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn the_skeleton_and_the_built_in_components_have_no_fault() {
    assert_eq!(told(&[], faults), [""; 0]);
    assert_eq!(faults(&[]).expect("looked at").len(), 0);
}

#[test]
fn metadata() {
    check(&[Say(META, "\"roles\"", "\"rolls\"")], &["metadata/shop.json:1: ", "metadata/shop.json:1: "]);
    check(
        &[Say(META, "\"dependencies\": [],", "\"dependencies\": []")],
        &["metadata/shop.json:12: is not JSON: expected `,`"],
    );
    check(
        &[Say(META, "\"default_role\": \"shop\"", "\"default_role\": \"boss\"")],
        &["metadata/shop.json:5 /default_role: \"boss\" is not one of the roles"],
    );
    check(
        &[Say(META, "\"default_version\": \"1.0\"", "\"default_version\": \"1.1\"")],
        &["metadata/shop.json:6 /default_version: \"1.1\" is not one of the versions"],
    );
    check(
        &[Say(META, "\"peers\": { \"shop\": [\"shop\"] }", "\"peers\": { \"shop\": [\"ship\"] }")],
        &["metadata/shop.json:12 /peers/shop: \"ship\" is not one of the roles"],
    );
    check(
        &[Say(META, "\"type\": \"shop\",", "\"type\": \"ship\",")],
        &[
            "metadata/shop.json:2 /type: says type \"ship\"; it must equal the file's name",
            "metadata/shop.json:7 /versions: offers 1.0, but folder app/ship/1.0 of the config repo does not exist",
        ],
    );
    check(&[Say(META, "\"default\": 1", "\"default\": 10")], &["/sizes"]);
    check(&[Say(META, "\"3*\"", "\"3*4*\"")], &["/versions/1.0/packages/0: "]);
    check(
        &[Say(
            META,
            "\"start\": { \"total_s\": 60, \"no_progress_s\": 60 }",
            "\"start\": { \"total_s\": 60, \"no_progress_s\": 61 }",
        )],
        &["/stages/start: no_progress_s is above total_s"],
    );
    check(&[Say(META, "\"remove\":", "\"depart\":")], &["/stages/depart: is not a stage or verb; known are install"]);
    check(
        &[Say(META, "\"script_role\": \"shop\"", "\"script_role\": \"shop\", \"sections\": [\"sever\"]")],
        &["/roles/0/sections: \"sever\" is no section of app/shop/1.0/default.json"],
    );
    check(
        &[Say(META, "\"dependencies\": []", "\"dependencies\": [{ \"type\": \"bank\", \"required\": true }]")],
        &["/dependencies/0/type: \"bank\" has no file in metadata/"],
    );
    check(
        &[Say(META, "\"versions\": {", "\"versions\": { \"2.0\": { \"packages\": [] },")],
        &[
            "metadata/shop.json:7 /versions: offers 2.0, but folder app/shop/2.0 of the config repo does not exist; add app/shop/2.0/default.json",
        ],
    );
}

#[test]
fn operations() {
    let join = |operation: &'static str| Say(META, "\"script_role\": \"shop\"", operation);
    check(
        &[join("\"script_role\": \"shop\", \"join\": { \"command\": \"shop-cmd/hallo\" }")],
        &["/roles/0/join: there is no guest command shop-cmd/hallo"],
    );
    check(
        &[join("\"script_role\": \"shop\", \"join\": { \"command\": \"zk-cmd/list-namespace\" }")],
        &["/roles/0/join: zk-cmd/list-namespace runs on nodes of zookeeper only; here are shop"],
    );
    check(
        &[join(
            "\"script_role\": \"shop\", \"join\": { \"command\": \"shop-cmd/hello\", \"args\": { \"nam\": \"{nod}\" } }",
        )],
        &["/roles/0/join/args/nam: {nod} stands for nothing; known are {node}"],
    );
    check(
        &[join(
            "\"script_role\": \"shop\", \"join\": { \"command\": \"shop-cmd/hello\", \"args\": { \"nam\": \"{node}\" } }",
        )],
        &["/roles/0/join: shop-cmd/hello takes no argument nam"],
    );
    check(
        &[join(
            "\"script_role\": \"shop\", \"join\": { \"command\": \"shop-cmd/hello\", \"args\": { \"name\": true } }",
        )],
        &["/roles/0/join: shop-cmd/hello takes a value of type string as name, not true"],
    );
    let remove = |operation: &'static str| Say(META, "\"dependencies\": []", operation);
    check(
        &[remove(
            "\"dependencies\": [{ \"type\": \"zookeeper\", \"required\": true, \"remove\": { \"command\": \"zk-cmd/delete-namespace\", \"args\": { \"name\": \"{component}\", \"recursive\": \"true\" } } }]",
        )],
        &["/dependencies/0/remove: zk-cmd/delete-namespace takes a value of type boolean as recursive, not \"true\""],
    );
    check(
        &[
            join("\"script_role\": \"shop\", \"leave\": { \"command\": \"shop-cmd/hello\" }"),
            Say("guestcmds/shop-cmd/hello.json", "\"idempotent\": true", "\"idempotent\": false"),
            Say(
                "guestcmds/shop-cmd/hello.json",
                "\"type\": \"object\",",
                "\"type\": \"object\", \"required\": [\"name\"],",
            ),
        ],
        &["is not idempotent, but an operation is tried until it succeeds", "needs the argument name"],
    );
}

#[test]
fn configuration() {
    check(&[Lose(DEFAULT)], &["/versions: offers 1.0, but file app/shop/1.0/default.json does not exist"]);
    check(&[Say(USER, "\"greeting_repeats\"", "\"greeting\"")], &["app/shop/1.0/user.json:8"]);
    check(&[Say(USER, "\"value\": \"1\"", "\"value\": \"one\"")], &["app/shop/1.0/user.json:8"]);
    check(&[Say(USER, "\"value\": \"1\"", "\"value\": 1")], &["app/shop/1.0/user.json:8"]);
    check(&[Say(USER, "]\n}", "]\n")], &["app/shop/1.0/user.json:14: is not JSON: "]);
    check(
        &[Add("app/shop/1.1/default.json", "{ \"type\": \"ini\", \"content\": [] }")],
        &["app/shop/1.1: is of no version: add \"1.1\" to versions of metadata/shop.json (1.0)"],
    );
    check(
        &[Add("app/shop/1.0/users.json", "{ \"type\": \"ini\", \"content\": [] }")],
        &["app/shop/1.0/users.json: is not read: a version has default.json and user.json"],
    );
}

#[test]
fn scripts() {
    check(
        &[Lose("cmd/shop/default/validate.sh")],
        &["metadata/shop.json:4 /roles/0: the role shop of version 1.0 needs cmd/shop/default/validate.sh"],
    );
    check(
        &[Lose("pre_config/shop")],
        &["metadata/shop.json:4 /roles/0: the role shop of version 1.0 needs pre_config/shop, which is missing"],
    );
    check(
        &[Mode("cmd/shop/default/validate.sh", 0o644)],
        &["cmd/shop/default/validate.sh: is not executable: chmod +x cmd/shop/default/validate.sh"],
    );
    check(
        &[Say("cmd/shop/default/validate.sh", "#!/bin/bash", "# look at it")],
        &["cmd/shop/default/validate.sh: begins with no #! line"],
    );
    check(
        &[Add("cmd/shop/default/verify.sh", "#!/bin/bash\n"), Mode("cmd/shop/default/verify.sh", 0o755)],
        &["cmd/shop/default/verify.sh: is never run; those that are: install.sh, runpuppet.sh, validate.sh"],
    );
    check(
        &[Add("cmd/shop/1.1/validate.sh", "#!/bin/bash\n"), Mode("cmd/shop/1.1/validate.sh", 0o755)],
        &["cmd/shop/1.1: is of no version: call it default, or one of 1.0"],
    );
    check(
        &[Add("cmd/ship/default/validate.sh", "#!/bin/bash\n"), Mode("cmd/ship/default/validate.sh", 0o755)],
        &["cmd/ship: is of no role: no script_role in metadata/ is \"ship\"; there are: "],
    );
    check(&[Link("cmd/shop/default/stop.sh")], &["cmd/shop/default/stop.sh: is a symbolic link"]);
}

#[test]
fn guest_commands() {
    check(
        &[Lose("guestcmds/shop-cmd/hello.json")],
        &["guestcmds/shop-cmd/hello: has no hello.json beside it: a guest command is a program and its description"],
    );
    check(&[Lose(HELLO)], &["guestcmds/shop-cmd/hello.json: has no hello beside it"]);
    check(&[Mode(HELLO, 0o600)], &["guestcmds/shop-cmd/hello: is not executable"]);
    check(
        &[Say("guestcmds/shop-cmd/hello.json", "\"type\": \"string\"", "\"type\": \"text\"")],
        &["guestcmds/shop-cmd/hello.json:3 /arguments: is not a JSON Schema: "],
    );
    check(
        &[Say("guestcmds/shop-cmd/hello.json", "\"type\": \"object\"", "\"type\": \"string\"")],
        &["guestcmds/shop-cmd/hello.json:3 /arguments: must be the schema of an object"],
    );
    check(
        &[Say("guestcmds/shop-cmd/hello.json", "\"timeout_s\"", "\"time_s\"")],
        &["guestcmds/shop-cmd/hello.json:1: ", "guestcmds/shop-cmd/hello.json:1: "],
    );
    check(&[Add("guestcmds/stray", "")], &["guestcmds/stray: is not read: commands are in guestcmds/{group}/"]);
}

#[test]
fn what_other_programs_say_is_told_with_the_line() {
    let slips = [
        Say("cmd/shop/default/start.sh", "set -euo pipefail", "if true; then"),
        Say("pre_config/shop", "import sys", "import sys as"),
    ];
    let told = told(&slips, faults);
    for (file, words) in [
        ("cmd/shop/default/start.sh: bash says: line ", "syntax error"),
        ("pre_config/shop: python3 says", "invalid syntax"),
    ] {
        assert!(told.iter().any(|line| line.starts_with(file) && line.contains(words)), "no {file} {words}: {told:#?}");
    }
}

#[test]
fn a_folder_that_is_no_component_says_so() {
    let empty = tempfile::tempdir().expect("a directory");
    let found = form(&[empty.path().to_owned()]).expect("looked at");
    assert!(found.len() == 1 && found[0].to_string().contains("holds no component"), "{found:?}");
    let error = form(&[empty.path().join("nowhere")]).expect_err("no folder");
    assert!(error.text().contains("there is no folder"), "{}", error.text());
}
