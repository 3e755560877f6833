//! The console on a machine with a screen and a keyboard: what is typed there is done, and is to be read
//! on the screen.

use images::lab::{Firmware, LabError, Qemu};
use std::time::{Duration, Instant};
use system_tests::picture::Picture;
use system_tests::{BOOT_LIMIT, COMMAND_LIMIT, PROMPT, built, iso};

/// What is typed: lower and upper case, digits and keys with shift. Its answer is not what was typed.
const TYPED: &str = "echo Az_09 | grep -c A\n";
/// How the screen shows it.
const SHOWN: [&str; 2] = ["tessera# echo Az_09 | grep -c A", "1"];
/// How long to wait between two pictures.
const BETWEEN_PICTURES: Duration = Duration::from_millis(200);

/// Boots with a screen, types on the keyboard, and reads the screen.
fn typed_text_is_drawn(machine: &Qemu, name: &str) -> Result<(), LabError> {
    let (mut machine, mut desk) = machine.start_with_desk()?;
    machine.wait_for(PROMPT, BOOT_LIMIT)?;
    desk.type_text(TYPED)?;
    // The serial line shows the same shell.
    machine.wait_for("grep -c A", COMMAND_LIMIT)?;
    machine.wait_for(PROMPT, COMMAND_LIMIT)?;
    let directory = built("lab");
    std::fs::create_dir_all(&directory).map_err(|error| LabError::new(error.to_string()))?;
    let file = directory.join(format!("screen-{name}.ppm"));
    let end = Instant::now() + COMMAND_LIMIT;
    loop {
        desk.take_picture(&file)?;
        let lines = Picture::read(&file).map_err(LabError::new)?.lines();
        // Behind the answer there is the prompt, and the cursor.
        let at = lines.windows(3).position(|part| part[..2] == SHOWN);
        if at.is_some_and(|at| lines[at + 2].starts_with(PROMPT)) {
            return Ok(());
        }
        if Instant::now() > end {
            let text = lines.join("\n");
            return Err(LabError::new(format!("the screen shows:\n{text}")));
        }
        std::thread::sleep(BETWEEN_PICTURES);
    }
}

#[test]
fn typed_text_is_drawn_with_bios() {
    let drawn = typed_text_is_drawn(&Qemu::cdrom(&iso()), "bios");
    drawn.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn typed_text_is_drawn_with_uefi() {
    let machine = Qemu::cdrom(&iso()).firmware(Firmware::Uefi);
    let drawn = typed_text_is_drawn(&machine, "uefi");
    drawn.unwrap_or_else(|error| panic!("{error}"));
}
