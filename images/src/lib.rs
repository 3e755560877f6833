//! Manifest to boot archive to ISO; the QEMU and Bochs labs

