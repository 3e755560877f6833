# A guest under SVM and back.
#
# svm_run(registers: RDI, guest VMCB: RSI, host VMCB: RDX), all but RDI physical addresses. The
# general registers but RAX and RSP go through the array at RDI (order of docs/abi.md); those two
# are in the VMCB. The host's FS, GS, TR, LDTR and system-call registers are kept in the host VMCB.
# Interrupts are off on both sides; while the global flag is clear they are enabled, so that a
# physical interrupt ends the guest, and stay pending afterwards.

.text
.balign 64
.global svm_run
svm_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    push rdx
    clgi
    sti
    mov rax, rdx
    vmsave rax
    mov rax, rsi
    vmload rax
    mov rcx, [rdi + 8]
    mov rdx, [rdi + 16]
    mov rbx, [rdi + 24]
    mov rbp, [rdi + 40]
    mov rsi, [rdi + 48]
    mov r8, [rdi + 64]
    mov r9, [rdi + 72]
    mov r10, [rdi + 80]
    mov r11, [rdi + 88]
    mov r12, [rdi + 96]
    mov r13, [rdi + 104]
    mov r14, [rdi + 112]
    mov r15, [rdi + 120]
    mov rdi, [rdi + 56]
.global svm_entry
svm_entry:
    vmrun rax
    vmsave rax
    pop rax
    vmload rax
    pop rax                         # the array
    mov [rax + 8], rcx
    mov [rax + 16], rdx
    mov [rax + 24], rbx
    mov [rax + 40], rbp
    mov [rax + 48], rsi
    mov [rax + 56], rdi
    mov [rax + 64], r8
    mov [rax + 72], r9
    mov [rax + 80], r10
    mov [rax + 88], r11
    mov [rax + 96], r12
    mov [rax + 104], r13
    mov [rax + 112], r14
    mov [rax + 120], r15
    cli
    stgi
    cld
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
