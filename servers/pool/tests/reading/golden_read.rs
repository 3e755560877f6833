//! Every golden pool reads to exactly its manifest.

use crate::support::Golden;

macro_rules! secrets {
    () => {
        &[]
    };
    ($secrets:expr) => {
        &$secrets
    };
}

macro_rules! reads_to_its_manifest {
    ($($test:ident: $pool:literal $(, $secrets:expr)?;)*) => {
        $(
            #[test]
            fn $test() {
                Golden::load($pool).check(secrets!($($secrets)?));
            }
        )*
    };
}

reads_to_its_manifest! {
    single_disk_with_defaults: "p01-single-default";
    ashift_9_without_compression: "p02-ashift9-compat21-off";
    a_pool_without_features: "p03-nofeatures-v5000";
    every_compression: "p04-compression";
    every_checksum: "p05-checksums";
    record_sizes_and_dnode_sizes: "p06-recordsize-dnodesize";
    many_files_and_strange_names: "p07-manyfiles-dirs";
    a_mirror: "p08-mirror2";
    raidz1_of_three: "p09-raidz1-3";
    raidz2_of_five: "p10-raidz2-5";
    snapshots_and_clones: "p11-snapclone";
    volumes: "p12-zvol";
    the_source_of_the_streams: "p13-streams", [("p13/enc", b"correct horse")];
    a_log_that_was_not_replayed: "p14-zil-pending";
    a_log_on_a_device_of_its_own: "p15-zil-slog";
    a_damaged_mirror_reads_from_the_good_side: "p16-damaged-mirror";
    gang_blocks: "p19-gang";
    a_removed_vdev_and_a_special_one: "p20-removed-vdev-special";
    deduplicated_and_cloned_blocks: "p21-dedup-brt";
    encrypted_file_systems: "p22-encrypted", [("p22/g", &[b'A'; 32]), ("p22/c", b"open sesame")];
    raidz3_of_six: "p23-raidz3-6";
}
