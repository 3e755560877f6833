# What a hostile thread runs: random system calls with random registers and messages, and now and
# then an instruction that faults or should. One page, position-independent, without a stack.
#
# R14 = state of the random numbers, RBP = the thread's page: IPC buffer, then at 2048 the number
# of its system calls and at 2056 that of Calls answered without an error. Both registers survive
# system calls; a thread whose registers another one changed faults sooner or later, and the root
# task starts it again.

.section .text.hostile, "ax"
.balign 4096
.global hostile_code
hostile_code:
    jmp again

# The next random number, in R14. Changes RAX.
.macro NEXT
    mov rax, r14
    shl rax, 13
    xor r14, rax
    mov rax, r14
    shr rax, 7
    xor r14, rax
    mov rax, r14
    shl rax, 17
    xor r14, rax
.endm

# A random word in RDX: mostly a slot or a small number, else a page address, a depth or anything.
random_word:
    NEXT
    mov rdx, r14
    shr rdx, 8
    mov eax, r14d
    and eax, 15
    cmp eax, 11
    jb 1f
    je 2f
    cmp eax, 12
    je 3f
    cmp eax, 13
    je 4f
    jmp rbx
1:  and edx, 63
    jmp rbx
2:  mov edx, 6
    jmp rbx
3:  and edx, 0xfff
    jmp rbx
4:  shl rdx, 12
    shl rdx, 17
    shr rdx, 17
    jmp rbx

# A random word in \register. Changes RAX, RBX and RDX.
.macro PICK register
    lea rbx, [rip + 5f]
    jmp random_word
5:  mov \register, rdx
.endm

again:
    # Message words 4..22, extra capabilities, receive slot.
    mov ecx, 4
6:  PICK rdx
    mov [rbp + 8 + 8 * rcx], rdx
    inc ecx
    cmp ecx, 23
    jb 6b
    mov ecx, 122
7:  PICK rdx
    mov [rbp + 8 * rcx], rdx
    inc ecx
    cmp ecx, 128
    jb 7b

    PICK r8
    PICK r9
    PICK r10
    PICK r12
    PICK r13
    PICK r15
    PICK rdi

    # The message's description: label, extra capabilities, length.
    NEXT
    mov rsi, r14
    shr rsi, 8
    and esi, 63
    test r14d, 7
    jnz 8f
    or esi, 0x1000
8:  shl rsi, 12
    mov rax, r14
    shr rax, 20
    and eax, 0x180
    or rsi, rax
    mov rax, r14
    shr rax, 32
    and eax, 31
    or rsi, rax

    NEXT
    mov eax, r14d
    shr eax, 6
    and eax, 31
    lea rdx, [rip + numbers]
    movsx rdx, byte ptr [rdx + rax]
    inc qword ptr [rbp + 2048]
    syscall
    cmp rdx, -1
    jne 9f
    shr rsi, 12
    jnz 9f
    inc qword ptr [rbp + 2056]
9:
    NEXT
    test r14d, 0x1f0
    jnz again

    # Something else than a system call.
    mov eax, r14d
    shr eax, 10
    and eax, 15
    lea rcx, [rip + oddities]
    movsxd rax, dword ptr [rcx + 4 * rax]
    add rax, rcx
    jmp rax

breakpoint:
    int3
    jmp again
undefined:
    ud2
halt:
    hlt
port:
    in al, 0x60
legacy:
    int 0x80
trap:
    int 0xa5
    jmp again
spurious:
    int 0xff
    jmp again
read:
    mov rax, [r14]
jump:
    jmp r14
single_step:
    push 0x302
    popfq
    nop
    jmp again
single_step_call:
    mov rdx, -11
    push 0x302
    popfq
    syscall
    jmp again
alignment:
    push 0x40202
    popfq
    mov rax, [rbp + 1]
    jmp again
selectors:
    mov eax, 0x2b
    mov fs, eax
    mov gs, eax
    mov ds, eax
    jmp again
msr:
    mov ecx, 0xc0000080
    wrmsr
vectors:
    movdqu xmm0, [rbp]
    paddq xmm0, xmm0
    movdqu xmm7, xmm0
    fld1
    jmp again
divide:
    xor ecx, ecx
    div ecx

# The witness: writes down what it sees in the page at RDI, at 2048 of its own page, and how often
# at 2056.
.global hostile_witness
hostile_witness:
    mov rax, [rdi]
    mov [rbp + 2048], rax
    inc qword ptr [rbp + 2056]
    jmp hostile_witness

.balign 4
oddities:
    .long breakpoint - oddities, undefined - oddities, halt - oddities, port - oddities
    .long legacy - oddities, trap - oddities, spurious - oddities, read - oddities
    .long jump - oddities, single_step - oddities, single_step_call - oddities
    .long alignment - oddities, selectors - oddities, msr - oddities, vectors - oddities
    .long divide - oddities

# System calls, mostly Call and Send; the debug calls would only flood the log or stop the machine.
numbers:
    .byte -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -5, -5, -5, -6
    .byte -6, -7, -8, -9, -10, -2, -2, -3, -4, -11, -33, -64, -64, -32, 1, -40
.balign 4096
