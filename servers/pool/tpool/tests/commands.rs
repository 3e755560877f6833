//! The tool as its users run it: words, refusals and exit codes on image files.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const IMAGE_SIZE: u64 = 128 << 20;

/// A directory with two images, which goes away with the test.
struct Lab(PathBuf);

impl Lab {
    fn new(name: &str) -> Lab {
        let path = std::env::temp_dir().join(format!("tpool-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        for image in ["d0", "log0"] {
            let file = std::fs::File::create(path.join(image)).expect("an image");
            file.set_len(IMAGE_SIZE).expect("a sparse image");
        }
        Lab(path)
    }

    /// Runs the tool on both images; gives its exit code and what it printed.
    fn run(&self, command: &str) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_tpool"))
            .current_dir(&self.0)
            .args(["--dev", "d0", "--dev", "log0"])
            .args(command.split(' '))
            .output()
            .expect("the tool runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        (output.status.code().expect("an exit code"), text)
    }

    /// Runs the tool with bytes on its standard input; gives its exit code and all that it printed.
    fn pipe(&self, command: &str, input: &[u8]) -> (i32, Vec<u8>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tpool"))
            .current_dir(&self.0)
            .args(["--dev", "d0", "--dev", "log0"])
            .args(command.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // A stream that is refused is not read to its end.
        let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("the tool ends");
        writing.join().expect("a writer");
        let code = output.status.code().expect("an exit code");
        (code, [output.stdout, output.stderr].concat())
    }

    fn succeeds(&self, command: &str) -> String {
        let (code, text) = self.run(command);
        assert_eq!(code, 0, "{command}: {text}");
        text
    }

    fn fails(&self, command: &str, words: &str) {
        let (code, text) = self.run(command);
        assert_eq!(code, 1, "{command}: {text}");
        assert!(text.contains(words), "{command}: {text}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A directory that stays behind harms nothing.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn data_sets_live_as_zfs_users_know_it() {
    let lab = Lab::new("datasets");
    lab.succeeds("zpool create -O compression=gzip tank d0 log log0");
    lab.succeeds("zfs create -p tank/a/b");
    lab.succeeds("zfs create -s -V 8M tank/v");
    lab.succeeds("cp d0 tank/a/b:part");
    lab.succeeds("zfs snapshot -r tank@one");
    lab.fails(
        "zfs create tank/a",
        "cannot create 'tank/a': dataset already exists",
    );
    lab.fails(
        "zfs create tank/x/y",
        "cannot create 'tank/x/y': parent does not exist",
    );
    lab.fails(
        "zfs destroy tank/a",
        "cannot destroy 'tank/a': filesystem has children\nuse '-r'",
    );
    lab.succeeds("zfs clone tank/a/b@one tank/c");
    lab.fails("zfs destroy tank/a/b@one", "dataset is busy");
    lab.succeeds("zfs promote tank/c");
    lab.fails("zfs promote tank/c", "not a cloned filesystem");
    lab.succeeds("zfs hold keep tank/c@one");
    assert!(
        lab.succeeds("zfs holds -H tank/c@one")
            .starts_with("tank/c@one\tkeep\t")
    );
    lab.fails(
        "zfs hold keep tank/c@one",
        "tag already exists on this dataset",
    );
    lab.succeeds("zfs release keep tank/c@one");
    lab.fails("zfs release keep tank/c@one", "no such tag on this dataset");
    lab.succeeds("zfs bookmark tank/c@one #mark");
    lab.succeeds("zfs snapshot tank/c@two");
    lab.fails(
        "zfs rollback tank/c@one",
        "more recent snapshots or bookmarks exist",
    );
    lab.succeeds("zfs rollback -r tank/c@one");
    lab.succeeds("zfs destroy -r tank/a");
    lab.succeeds("zfs rename tank/c tank/d");
    let names = lab.succeeds("zfs list -H -o name -t all");
    assert_eq!(
        names,
        "tank\ntank@one\ntank/d\ntank/d@one\ntank/v\ntank/v@one\n"
    );
    assert_eq!(
        lab.run("zfs frobnicate").0,
        2,
        "a word that nobody knows is a usage error"
    );
}

#[test]
fn properties_and_the_pool_tell_what_was_set() {
    let lab = Lab::new("properties");
    lab.succeeds("zpool create tank d0 log log0");
    lab.succeeds("zfs create -o compression=zstd-5 tank/a");
    lab.succeeds("zfs set quota=50M my:note=hello tank/a");
    let shown =
        lab.succeeds("zfs get -H -o property,value,source compression,quota,my:note tank/a");
    assert_eq!(
        shown,
        "quota\t50M\tlocal\ncompression\tzstd-5\tlocal\nmy:note\thello\tlocal\n"
    );
    lab.succeeds("zfs inherit compression tank/a");
    assert_eq!(
        lab.succeeds("zfs get -H -o value,source compression tank/a"),
        "on\tdefault\n"
    );
    lab.fails("zfs set colour=red tank", "invalid property 'colour'");
    lab.fails(
        "zfs set quota=1K tank",
        "size is less than current used or reserved space",
    );
    lab.fails("zpool set feature@draid=enabled tank", "invalid property");
    lab.succeeds("zpool set feature@blake3=enabled tank");
    lab.succeeds("zfs set checksum=blake3 tank/a");
    let status = lab.succeeds("zpool status -v");
    assert!(
        status.contains("\tlogs\t\n") && status.ends_with("errors: No known data errors\n"),
        "{status}"
    );
    let history = lab.succeeds("zpool history");
    assert!(
        history.starts_with("History for 'tank':\n")
            && history.contains(" zfs set quota=50M my:note=hello tank/a\n"),
        "{history}"
    );
    lab.succeeds("zpool export tank");
    assert!(lab.succeeds("zpool import").contains("state: EXPORTED"));
}

#[test]
fn streams_go_from_pool_to_pool() {
    let lab = Lab::new("streams");
    lab.succeeds("zpool create tank d0 log log0");
    lab.succeeds("zfs create -o recordsize=1M tank/a");
    lab.succeeds("cp d0 tank/a:part");
    lab.succeeds("zfs snapshot tank/a@one");
    lab.succeeds("mkdir tank/a:more");
    lab.succeeds("zfs snapshot tank/a@two");
    let (code, full) = lab.pipe("zfs send -pL tank/a@one", &[]);
    assert_eq!(code, 0);
    let (_, rest) = lab.pipe("zfs send -cLe -i @one tank/a@two", &[]);
    let receive = |command: &str, input: &[u8]| {
        let (code, text) = lab.pipe(command, input);
        (code, String::from_utf8(text).expect("text"))
    };
    let (code, text) = receive("zfs receive -v tank/b", &full);
    assert!(
        code == 0 && text.starts_with("receiving full stream of tank/a@one into tank/b@one\n"),
        "{text}"
    );
    assert_eq!(
        receive("zfs receive tank/b", &full).1,
        "",
        "a part that is here is passed over"
    );
    let (_, plain) = lab.pipe("zfs send tank/a@two", &[]);
    let (code, text) = receive("zfs receive tank/b", &plain);
    assert!(
        code == 1 && text.contains("destination 'tank/b' exists\nmust specify -F"),
        "{text}"
    );
    lab.succeeds("mkdir tank/b:local");
    let (code, text) = receive("zfs receive tank/b", &rest);
    assert!(
        code == 1 && text.contains("has been modified\nsince most recent snapshot"),
        "{text}"
    );
    assert_eq!(receive("zfs receive -F tank/b", &rest), (0, String::new()));
    assert_eq!(lab.succeeds("tree tank/b"), lab.succeeds("tree tank/a"));
    assert_eq!(
        lab.succeeds("zfs get -H -o value,source recordsize tank/b"),
        "1M\treceived\n"
    );
    let (code, text) = receive("zfs receive -s tank/c", &plain[..plain.len() / 2]);
    let word = text.rsplit(' ').next().expect("a token").trim().to_string();
    assert!(code == 1 && text.contains("zfs send -t 1-"), "{text}");
    let shown = lab.succeeds("zfs get -H -o value receive_resume_token tank/c");
    assert_eq!(shown.trim(), word);
    let (code, tail) = lab.pipe(&format!("zfs send -t {word}"), &[]);
    assert_eq!(code, 0);
    assert_eq!(receive("zfs receive -s tank/c", &tail), (0, String::new()));
    assert_eq!(lab.succeeds("tree tank/c"), lab.succeeds("tree tank/a"));
    lab.fails(
        "zfs send tank/a@three",
        "cannot open 'tank/a@three': dataset does not exist",
    );
    lab.fails(
        "zfs send -i @two tank/a@one",
        "cannot send 'tank/a@one': not an earlier snapshot from the same fs",
    );
    assert!(
        lab.succeeds("zfs send -nP -i @one tank/a@two")
            .starts_with("incremental\t@one\ttank/a@two\t")
    );
}

#[test]
fn devices_come_and_go_and_scrubs_are_told() {
    let lab = Lab::new("devices");
    lab.succeeds("zpool create tank d0");
    lab.succeeds("cp log0 tank:big");
    lab.fails(
        "zpool detach tank d0",
        "cannot detach d0: only applicable to mirror and replacing vdevs",
    );
    lab.fails("zpool offline tank d0", "no valid replicas");
    lab.fails("zpool attach tank d9 log0", "no such device in pool");
    lab.succeeds("zpool attach tank d0 log0");
    let status = lab.succeeds("zpool status");
    assert!(
        status.contains("  scan: resilvered ") && status.contains("mirror-0"),
        "{status}"
    );
    lab.succeeds("zpool offline tank log0");
    assert!(lab.succeeds("zpool status").contains("OFFLINE"));
    lab.succeeds("mkdir tank:meanwhile");
    lab.succeeds("zpool online tank log0");
    lab.succeeds("zpool scrub tank");
    let status = lab.succeeds("zpool status");
    assert!(
        status.contains("  scan: scrub repaired 0B in ") && status.contains("with 0 errors on "),
        "{status}"
    );
    lab.fails("zpool scrub -s tank", "there is no active scrub");
    lab.succeeds("zpool detach tank d0");
    let status = lab.succeeds("zpool status");
    assert!(
        !status.contains("mirror") && status.contains("log0"),
        "{status}"
    );
}

#[test]
fn a_pool_grows_when_its_replication_allows_it() {
    let lab = Lab::new("add");
    lab.succeeds("zpool create tank d0");
    lab.fails("zpool add tank d0", "d0 is part of active pool 'tank'");
    lab.fails("zpool trim other", "cannot open 'other': no such pool");
    lab.succeeds("zpool add -n tank log0");
    assert!(!lab.succeeds("zpool status").contains("log0"));
    lab.succeeds("zpool add tank log log0");
    let status = lab.succeeds("zpool status");
    assert!(status.contains("\tlogs\t\n\t  log0 "), "{status}");
    lab.succeeds("cp d0 tank:copy");
    lab.succeeds("zpool trim tank");
    lab.succeeds("zpool clear tank d0");
    lab.fails("zpool clear tank d9", "no such device in pool");
    assert!(
        lab.succeeds("zpool history")
            .contains(" zpool add tank log log0\n")
    );
    let mirrored = Lab::new("add-mirror");
    mirrored.succeeds("zpool create tank d0");
    mirrored.succeeds("zpool attach tank d0 log0");
    std::fs::File::create(mirrored.0.join("d2"))
        .and_then(|file| file.set_len(IMAGE_SIZE))
        .expect("an image");
    mirrored.fails(
        "--dev d2 zpool add tank d2",
        "mismatched replication level: pool uses mirror and new vdev is file",
    );
    mirrored.succeeds("--dev d2 zpool add -f tank d2");
    assert!(
        mirrored
            .run("zpool status")
            .1
            .contains("top-level vdevs are missing")
    );
}
