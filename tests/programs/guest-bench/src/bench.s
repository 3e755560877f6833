# Measures, in a virtual machine, what an exit to its monitor costs; see main.rs.
#
# As a kernel: 64-bit code at privilege level 0, interrupts off, the first 4 GiB mapped to
# themselves (Linux's 64-bit boot protocol). As a process: Linux's system calls.

.set WARM_UP, 64                    # rounds before those that count: caches of the monitor fill
.set ROUNDS, 1000
.set QUIET_TICKS, 50000000          # after the key was pressed, until the console has settled
.set COM1, 0x3f8
.set LINE_STATUS, COM1 + 5
.set VECTOR, 0x50
.set CODE_SELECTOR, 0x10            # both as the boot protocol has them
.set DATA_SELECTOR, 0x18
.set NOTHING_THERE, 0xd0000000      # no device
.set IA32_APIC_BASE, 0x1b
.set APIC_X2_ENABLED, 0xc00
.set IA32_TSC_DEADLINE, 0x6e0
.set X2APIC_EOI, 0x80b
.set X2APIC_SPURIOUS, 0x80f
.set X2APIC_TIMER, 0x832
.set X2APIC_SELF_IPI, 0x83f
.set TIMER_DEADLINE_MODE, 0x40000
.set APIC_ENABLED, 0x1ff
.set SYS_WRITE, 1
.set SYS_PAUSE, 34

.text
.global _start
_start:
    mov eax, cs
    test al, 3
    jnz first_process
    jmp kernel

# RAX = time-stamp counter. Changes RDX.
.macro read_counter
    rdtsc
    shl rdx, 32
    or rax, rdx
.endm

.macro write_register number, value
    mov ecx, \number
    mov eax, \value
    xor edx, edx
    wrmsr
.endm

# Prints the mean of ROUNDS executions of `body`, which leaves RBP and R12..R15 alone.
.macro measure name, body
    .pushsection .rodata
90: .asciz "\name"
    .popsection
    mov ebp, WARM_UP
91: \body
    dec ebp
    jnz 91b
    read_counter
    mov r12, rax
    mov ebp, ROUNDS
92: \body
    dec ebp
    jnz 92b
    read_counter
    sub rax, r12
    lea rsi, [rip + 90b]
    call keep
.endm

kernel:
    lea rsp, [rip + stack_end]
    lgdt [rip + gdt_pointer]
    lea rdi, [rip + idt + VECTOR * 16]
    lea rax, [rip + take_interrupt]
    mov [rdi], ax
    mov word ptr [rdi + 2], CODE_SELECTOR
    mov word ptr [rdi + 4], 0x8e00  # present, interrupt gate
    shr rax, 16
    mov [rdi + 6], ax
    lidt [rip + idt_pointer]
    mov ecx, IA32_APIC_BASE
    rdmsr
    or eax, APIC_X2_ENABLED
    wrmsr
    write_register X2APIC_SPURIOUS, APIC_ENABLED
    write_register X2APIC_TIMER, TIMER_DEADLINE_MODE + VECTOR

    lea rsi, [rip + ready]
    call print
wait_for_key:
    pause
    mov dx, LINE_STATUS
    in al, dx
    test al, 1
    jz wait_for_key
    mov dx, COM1
    in al, dx
    read_counter
    mov r12, rax
settle:
    read_counter
    sub rax, r12
    cmp rax, QUIET_TICKS
    jb settle

    lea r13, [rip + results]
    measure "1000 instructions in a VM", ".fill 998, 1, 0x90"
    measure "VM exit, CPUID", "xor eax, eax; cpuid"
    measure "VM exit, port write", "out 0x80, al"
    measure "VM exit, port read", "in al, 0x61"
    mov ebx, NOTHING_THERE
    measure "VM exit, MMIO write", "mov [rbx], eax"
    measure "VM exit, MMIO read", "mov eax, [rbx]"
    call measure_halt
    sti
    measure "VM exit, self-IPI, interrupt and EOI", "write_register X2APIC_SELF_IPI, VECTOR"
    cli
    call print_results
    lea rsi, [rip + done]
    call print
stop:
    hlt
    jmp stop

# HLT with an interrupt that is pending already: from before STI until the interrupt's handler runs.
# What makes it pending, and its EOI, are exits too and not counted.
measure_halt:
    call halt_rounds                # once for the monitor's caches
    call halt_rounds
    mov rax, r15
    lea rsi, [rip + halt_name]
    jmp keep

halt_rounds:
    xor r15d, r15d
    mov ebp, ROUNDS
halt_round:
    write_register IA32_TSC_DEADLINE, 1
    read_counter
    sub r15, rax
    sti
    hlt
    cli
    add r15, r14
    dec ebp
    jnz halt_round
    ret

# R14 = the counter when the interrupt came.
take_interrupt:
    push rax
    push rcx
    push rdx
    read_counter
    mov r14, rax
    write_register X2APIC_EOI, 0
    pop rdx
    pop rcx
    pop rax
    iretq

# Keeps the figure with the name at RSI: ROUNDS took RAX ticks.
keep:
    xor edx, edx
    mov ecx, ROUNDS
    div rcx
    mov [r13], rsi
    mov [r13 + 8], rax
    add r13, 16
    ret

print_results:
    lea r12, [rip + results]
next_result:
    lea rsi, [rip + prefix]
    call print
    mov rsi, [r12]
    call print
    lea rsi, [rip + equals]
    call print
    mov rax, [r12 + 8]
    call format
    call print
    lea rsi, [rip + line_end]
    call print
    add r12, 16
    cmp r12, r13
    jne next_result
    ret

# Sends the text at RSI, which ends with 0, to COM1.
print:
    mov dx, COM1
1:  lodsb
    test al, al
    jz 2f
    out dx, al
    jmp 1b
2:  ret

# RSI = the number in RAX as text.
format:
    lea rsi, [rip + number_end]
    mov ecx, 10
1:  xor edx, edx
    div rcx
    add dl, '0'
    dec rsi
    mov [rsi], dl
    test rax, rax
    jnz 1b
    ret

first_process:
    read_counter
    mov rbx, rax
    lea rsi, [rip + start_name]
    lea rdx, [rip + start_name_end]
    call write
    mov rax, rbx
    call format
    lea rdx, [rip + number_end]
    call write
    lea rsi, [rip + start_end]
    lea rdx, [rip + start_end_end]
    call write
1:  mov eax, SYS_PAUSE
    syscall
    jmp 1b

# Writes what is from RSI to RDX to standard output.
write:
    sub rdx, rsi
    mov edi, 1
    mov eax, SYS_WRITE
    syscall
    ret

.section .rodata
ready:      .asciz "guest: press a key\r\n"
prefix:     .asciz "bench: "
equals:     .asciz " = "
line_end:   .asciz "\r\n"
done:       .asciz "guest: done\r\n"
halt_name:  .asciz "VM exit, HLT and injected interrupt"
start_name: .ascii "bench: Linux in a VM = "
start_name_end:
start_end:  .ascii "\nguest: done\n"
start_end_end:

.align 8
gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff        # 64-bit code
    .quad 0x00cf93000000ffff        # data
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
idt_pointer:
    .word 256 * 16 - 1
    .quad idt

.data
number:     .space 24
number_end: .byte 0

.bss
.align 16
idt:        .space 256 * 16
results:    .space 16 * 16
            .space 4096
stack_end:
