//! The tool as its users run it: words, refusals and exit codes on image files.

use std::path::PathBuf;
use std::process::Command;

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
