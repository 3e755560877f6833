# A guest under VMX and back.
#
# vmx_run(registers: RDI, is_launched: RSI) -> RAX, with the guest's VMCS current. The general
# registers but RSP go through the array at RDI (order of docs/abi.md). An exit comes to vmx_exit
# with RSP as it was before the entry; a failed instruction falls through. Interrupts are off on
# both sides.

.text
.balign 64
.global vmx_run
vmx_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov eax, {HOST_RSP}
    vmwrite rax, rsp
    test rsi, rsi                   # moves leave the flags alone
    mov rax, [rdi]
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
    jnz 1f
    vmlaunch
    jmp 2f
1:  vmresume
2:  mov eax, 1
    pop rdi
    jmp 3f

.balign 64
.global vmx_exit
vmx_exit:
    push rdi
    mov rdi, [rsp + 8]              # the array
    mov [rdi], rax
    pop rax
    mov [rdi + 56], rax
    mov [rdi + 8], rcx
    mov [rdi + 16], rdx
    mov [rdi + 24], rbx
    mov [rdi + 40], rbp
    mov [rdi + 48], rsi
    mov [rdi + 64], r8
    mov [rdi + 72], r9
    mov [rdi + 80], r10
    mov [rdi + 88], r11
    mov [rdi + 96], r12
    mov [rdi + 104], r13
    mov [rdi + 112], r14
    mov [rdi + 120], r15
    xor eax, eax
    pop rdi
3:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
