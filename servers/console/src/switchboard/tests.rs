use super::*;
use proptest::prelude::*;

const BOTH: [Terminal; 2] = [Terminal::Line, Terminal::Screen];

fn switchboard() -> Switchboard {
    Switchboard::new(&BOTH, ["root".into(), "monitor.0".into()])
}

fn output(switchboard: &mut Switchboard, terminal: Terminal) -> String {
    let bytes = core::iter::from_fn(|| switchboard.next_output(terminal)).collect();
    String::from_utf8(bytes).unwrap()
}

fn type_text(switchboard: &mut Switchboard, terminal: Terminal, text: &[u8]) {
    for &byte in text {
        switchboard.typed(terminal, Typed::Byte(byte));
    }
}

fn machine_input(switchboard: &mut Switchboard, machine: usize) -> Vec<u8> {
    core::iter::from_fn(|| switchboard.take_machine_input(machine)).collect()
}

#[test]
fn the_shell_is_in_front_of_both_terminals_at_first() {
    let mut switchboard = switchboard();
    switchboard.write_shell(b"tessera# ");
    assert_eq!(output(&mut switchboard, Terminal::Line), "tessera# ");
    assert_eq!(output(&mut switchboard, Terminal::Screen), "tessera# ");
    type_text(&mut switchboard, Terminal::Screen, b"ps\r");
    assert_eq!(
        switchboard.next_event(),
        Some(Event::Input(b"ps\r".to_vec()))
    );
    assert_eq!(switchboard.next_event(), None);
}

#[test]
fn a_machine_sees_and_shows_only_its_own_bytes() {
    let mut switchboard = switchboard();
    switchboard.write_machine(0, b"zero");
    switchboard.write_machine(1, b"one");
    switchboard.attach(VirtualConsole::Machine(1)).unwrap();
    type_text(&mut switchboard, Terminal::Line, b"ls\r");
    assert!(output(&mut switchboard, Terminal::Line).ends_with("one"));
    assert_eq!(machine_input(&mut switchboard, 0), b"");
    assert_eq!(machine_input(&mut switchboard, 1), b"ls\r");
    assert_eq!(switchboard.next_event(), None);
}

#[test]
fn the_escape_key_returns_to_the_shell_and_tells_it() {
    let mut switchboard = switchboard();
    switchboard.attach(VirtualConsole::Machine(0)).unwrap();
    output(&mut switchboard, Terminal::Line);
    type_text(&mut switchboard, Terminal::Line, b"a\x1db");
    assert_eq!(switchboard.next_event(), Some(Event::Detached));
    assert_eq!(
        switchboard.next_event(),
        Some(Event::Input(b"b".to_vec())),
        "what follows is the shell's"
    );
    assert_eq!(machine_input(&mut switchboard, 0), b"a");
    switchboard.write_machine(0, b"hidden");
    assert!(!output(&mut switchboard, Terminal::Line).contains("hidden"));
}

#[test]
fn detaching_returns_to_the_shell_silently() {
    let mut switchboard = switchboard();
    switchboard.attach(VirtualConsole::Machine(0)).unwrap();
    switchboard.detach();
    switchboard.write_shell(b"back");
    assert!(output(&mut switchboard, Terminal::Line).ends_with("back"));
    assert_eq!(switchboard.next_event(), None);
}

#[test]
fn a_machine_that_does_not_exist_is_refused_and_nothing_changes() {
    let mut switchboard = switchboard();
    let missing = VirtualConsole::Machine(MAX_MACHINES as u16);
    assert_eq!(switchboard.attach(missing), Err(NotFound));
    assert_eq!(switchboard.clear(missing), Err(NotFound));
    switchboard.write_machine(MAX_MACHINES, b"x");
    assert_eq!(switchboard.take_machine_input(MAX_MACHINES), None);
    type_text(&mut switchboard, Terminal::Line, b"x");
    assert_eq!(switchboard.next_event(), Some(Event::Input(b"x".to_vec())));
}

#[test]
fn the_scrollback_is_replayed_until_it_is_cleared() {
    let mut switchboard = switchboard();
    switchboard.write_machine(0, b"boot\r\n");
    for _ in 0..2 {
        switchboard.attach(VirtualConsole::Machine(0)).unwrap();
        assert!(output(&mut switchboard, Terminal::Line).ends_with("boot\r\n"));
        switchboard.detach();
        output(&mut switchboard, Terminal::Line);
    }
    switchboard.clear(VirtualConsole::Machine(0)).unwrap();
    switchboard.attach(VirtualConsole::Machine(0)).unwrap();
    assert!(!output(&mut switchboard, Terminal::Line).contains("boot"));
}

#[test]
fn function_keys_change_the_screen_and_not_the_line() {
    let mut switchboard = switchboard();
    switchboard.write_shell(b"shell");
    switchboard.write_log(0, b"hello\n", 1_000_000);
    output(&mut switchboard, Terminal::Line);
    switchboard.typed(Terminal::Screen, Typed::Console(2));
    assert!(output(&mut switchboard, Terminal::Screen).ends_with("root: hello\r\n"));
    assert_eq!(output(&mut switchboard, Terminal::Line), "");
    type_text(&mut switchboard, Terminal::Screen, b"lost\x1d");
    assert!(output(&mut switchboard, Terminal::Screen).ends_with("shell"));
    assert_eq!(switchboard.next_event(), None, "nothing was attached");
    switchboard.typed(Terminal::Screen, Typed::Console(12));
    assert_eq!(output(&mut switchboard, Terminal::Screen), "");
}

#[test]
fn a_writer_waits_only_while_the_line_shows_it_and_lags() {
    let mut switchboard = switchboard();
    let page = [b'x'; MAX_BACKLOG_BYTES as usize];
    switchboard.write_machine(0, &page);
    assert_eq!(switchboard.machine_room(0), MAX_BACKLOG_BYTES);
    switchboard.attach(VirtualConsole::Machine(0)).unwrap();
    assert_eq!(switchboard.machine_room(0), 0);
    output(&mut switchboard, Terminal::Line);
    assert_eq!(switchboard.machine_room(0), MAX_BACKLOG_BYTES);
    switchboard.detach();
    output(&mut switchboard, Terminal::Line);
    switchboard.write_shell(&page);
    assert!(!switchboard.shell_has_room());
    output(&mut switchboard, Terminal::Line);
    assert!(switchboard.shell_has_room());
}

#[test]
fn without_a_line_nobody_waits() {
    let mut switchboard = Switchboard::new(&[Terminal::Screen], []);
    switchboard.write_shell(&[b'x'; 3 * MAX_BACKLOG_BYTES as usize]);
    assert!(switchboard.shell_has_room());
    assert_eq!(switchboard.next_output(Terminal::Line), None);
}

#[test]
fn a_warning_is_a_notice_for_the_shell_and_a_line_of_the_log() {
    let mut switchboard = switchboard();
    switchboard.write_log(0, b"all is well\nERROR monitor.0 di", 1_500_000);
    assert_eq!(switchboard.next_event(), None);
    switchboard.write_log(0, b"ed\n", 2_500_000);
    let notice = "[    2.500000] root: ERROR monitor.0 died";
    assert_eq!(switchboard.next_event(), Some(Event::Notice(notice.into())));
    assert_eq!(switchboard.next_event(), None);
    assert_eq!(switchboard.read_log(0).lines.len(), 2);
    assert_eq!(output(&mut switchboard, Terminal::Line), "");
}

#[test]
fn a_notice_that_nobody_takes_is_shown_on_a_line_of_its_own() {
    let mut switchboard = switchboard();
    switchboard.write_shell(b"working");
    switchboard.write_log(0, b"WARN hot\n", 0);
    switchboard.overdue_notices(10);
    assert_eq!(switchboard.notice_due(), Some(NOTICE_PATIENCE_US));
    switchboard.overdue_notices(NOTICE_PATIENCE_US);
    assert_eq!(switchboard.notice_due(), None);
    assert_eq!(
        output(&mut switchboard, Terminal::Line),
        "working\r\n[    0.000000] root: WARN hot\r\n"
    );
    assert_eq!(switchboard.next_event(), None);
}

#[test]
fn too_many_notices_leave_the_newest() {
    let mut switchboard = switchboard();
    for number in 0..MAX_NOTICES + 3 {
        switchboard.write_log(0, format!("WARN {number}\n").as_bytes(), 0);
    }
    let Some(Event::Notice(first)) = switchboard.next_event() else {
        panic!();
    };
    assert!(first.ends_with("WARN 3"));
}

#[test]
fn input_that_nobody_reads_is_bounded() {
    let mut switchboard = switchboard();
    type_text(
        &mut switchboard,
        Terminal::Line,
        &[b'x'; 3 * MAX_INPUT_BYTES],
    );
    let mut total = 0;
    while let Some(Event::Input(bytes)) = switchboard.next_event() {
        assert!(bytes.len() <= INPUT_BYTES_MAX);
        total += bytes.len();
    }
    assert_eq!(total, MAX_INPUT_BYTES);
}

#[derive(Debug, Clone)]
enum Step {
    Typed(Terminal, Typed),
    Shell(Vec<u8>),
    Machine(usize, Vec<u8>),
    Log(usize, Vec<u8>),
    Attach(VirtualConsole),
    Detach,
    Clear(VirtualConsole),
    Output(Terminal, usize),
    Event,
    Overdue(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let terminal = prop_oneof![Just(Terminal::Line), Just(Terminal::Screen)];
    let typed = prop_oneof![
        any::<u8>().prop_map(Typed::Byte),
        Just(Typed::Byte(ESCAPE_KEY)),
        any::<u8>().prop_map(Typed::Console),
        (1u8..12).prop_map(Typed::Console),
    ];
    let console = prop_oneof![
        Just(VirtualConsole::Shell),
        Just(VirtualConsole::Log),
        (0u16..10).prop_map(VirtualConsole::Machine),
    ];
    let bytes = || proptest::collection::vec(any::<u8>(), 0..50);
    prop_oneof![
        (terminal.clone(), typed).prop_map(|(terminal, typed)| Step::Typed(terminal, typed)),
        bytes().prop_map(Step::Shell),
        (0usize..10, bytes()).prop_map(|(machine, bytes)| Step::Machine(machine, bytes)),
        (0usize..4, bytes()).prop_map(|(writer, bytes)| Step::Log(writer, bytes)),
        console.clone().prop_map(Step::Attach),
        Just(Step::Detach),
        console.prop_map(Step::Clear),
        (terminal, 0usize..100).prop_map(|(terminal, count)| Step::Output(terminal, count)),
        Just(Step::Event),
        any::<u64>().prop_map(Step::Overdue),
    ]
}

/// What a seat may send besides the front console's own bytes: what clears a terminal, and the rest of
/// what the shell said before it was left.
const OTHER: &[u8] = b"\x1b[0m\x1b[?25h\x1b[r\r\n\x1bcS";

/// Takes up to `count` bytes of output; each is the front console's own or allowed.
fn check_output(
    switchboard: &mut Switchboard,
    terminal: Terminal,
    count: usize,
) -> Result<(), TestCaseError> {
    let front = switchboard.seat(terminal).as_ref().unwrap().front();
    for _ in 0..count {
        let Some(byte) = switchboard.next_output(terminal) else {
            break;
        };
        if front >= FIRST_MACHINE {
            let own = b'0' + (front - FIRST_MACHINE) as u8;
            prop_assert!(byte == own || OTHER.contains(&byte));
        }
    }
    Ok(())
}

proptest! {
    /// Every machine writes only its own digit; the shell and the log write letters.
    #[test]
    fn no_sequence_of_steps_shows_a_console_the_bytes_of_another(
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut switchboard = switchboard();
        for step in steps {
            if matches!(step, Step::Typed(..) | Step::Attach(_) | Step::Detach) {
                // A line shows the rest of what it leaves, so nothing is left here.
                for terminal in BOTH {
                    check_output(&mut switchboard, terminal, usize::MAX)?;
                }
            }
            match step {
                Step::Typed(terminal, typed) => switchboard.typed(terminal, typed),
                Step::Shell(bytes) => switchboard.write_shell(&vec![b'S'; bytes.len()]),
                Step::Machine(machine, bytes) => {
                    let digit = b'0' + machine as u8;
                    switchboard.write_machine(machine, &vec![digit; bytes.len()]);
                }
                Step::Log(writer, bytes) => switchboard.write_log(writer, &bytes, 0),
                Step::Attach(console) => {
                    let _ = switchboard.attach(console);
                }
                Step::Detach => switchboard.detach(),
                Step::Clear(console) => {
                    let _ = switchboard.clear(console);
                }
                Step::Output(terminal, count) => check_output(&mut switchboard, terminal, count)?,
                Step::Event => {
                    switchboard.next_event();
                }
                Step::Overdue(now_us) => {
                    switchboard.overdue_notices(now_us);
                }
            }
        }
        switchboard.detach();
        prop_assert_eq!(switchboard.attached, None);
    }
}
