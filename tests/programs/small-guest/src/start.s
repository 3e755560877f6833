# From the entry of the PVH protocol to `guest_main`, by way of real mode: the first CPU leaves
# protected mode, and from there on does what a CPU does after a start-up message. Then what stands
# between an exception and Rust.

    .set TRAMPOLINE, 0x8000         # page of the start-up message
    .set CODE_32, 0x08
    .set DATA, 0x10
    .set CODE_64, 0x18
    .set CODE_16, 0x20
    .set DATA_16, 0x28
    .set FIRST_TSS, 0x30
    .set STACK_BYTES, 0x4000
    .set WATCHDOG, 0xf0             # the interrupt that ends an attempt, as exceptions do
    .set FIRST_INTERRUPT, 32
    .set END_OF_INTERRUPT, 0xfee000b0

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long start

    .text
    .code32
    .globl start
start:
    cld
    mov %ebx, start_record
    mov $trampoline, %esi
    mov $TRAMPOLINE, %edi
    mov $(trampoline_end - trampoline), %ecx
    rep movsb

    # The first 4 GiB, mapped to themselves with pages of 2 MiB.
    mov $(third_tables + 3), %eax
    mov $second_table, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    movl $(second_table + 3), first_table
    mov $0x83, %eax
    mov $third_tables, %edi
    mov $2048, %ecx
1:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 1b

    lgdt gdt_pointer
    ljmp $CODE_16, $(TRAMPOLINE + leave_protected_mode - trampoline)

    # Code that is copied to below 1 MiB. It begins with what a start-up message starts.
    .code16
trampoline:
    cli
    cld
    mov %cs, %ax
    mov %ax, %ds
    mov $1, %bp
    lock xadd %bp, (started - trampoline)
    smsw (machine_status - trampoline)
    mov $(real_mode_text - trampoline), %si
    mov $(real_mode_text_end - real_mode_text), %cx
    mov $0x3f8, %dx
    rep outsb
    lgdtl (gdt_pointer_copy - trampoline)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $CODE_32, $protected_mode
leave_protected_mode:
    mov $DATA_16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    # JMP FAR
    .byte 0xea
    .word 0
real_mode_segment:
    .word TRAMPOLINE >> 4
    .balign 8
gdt_pointer_copy:
    .word gdt_end - gdt - 1
    .long gdt
started:
    .word 0
machine_status:
    .word 0
real_mode_text:
    .ascii "GUEST in real mode\r\n"
real_mode_text_end:
trampoline_end:

    .globl trampoline_status
    .set trampoline_status, TRAMPOLINE + machine_status - trampoline

    .code32
protected_mode:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x620, %eax                # PAE, OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov $first_table, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx           # EFER
    rdmsr
    or $0x900, %eax                 # LME, NXE
    wrmsr
    mov $0x80010033, %eax           # PG, WP, NE, ET, MP, PE
    mov %eax, %cr0
    ljmp $CODE_64, $long_mode

    .code64
long_mode:
    movzwl %bp, %edi
    lea 1(%rdi), %eax
    imul $STACK_BYTES, %eax
    lea stacks(%rax), %rsp
    mov start_record, %esi
    xor %ebp, %ebp
    call guest_main
    ud2

    # From long mode to real mode, at 0x3000:0.
    .globl to_random_real_mode
to_random_real_mode:
    movw $0x3000, TRAMPOLINE + real_mode_segment - trampoline
    ljmp *compatibility_pointer
    .code32
compatibility_mode:
    mov %cr0, %eax
    and $0x7fffffff, %eax           # paging off: long mode ends
    mov %eax, %cr0
    ljmp $CODE_16, $(TRAMPOLINE + leave_protected_mode - trampoline)
    .code64

    # Vector n begins at trap_stubs + 16 * n.
    .balign 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    pushq $vector
    jmp trap
    .set vector, vector + 1
    .endr

    # On a stack of the CPU's own (IST 1), above which its block's address stands. From RSP on: RDX,
    # RAX, vector, error code, RIP, CS, RFLAGS, RSP, SS, the address.
trap:
    # Some exceptions come with an error code, but not if INT raised them. The frame begins at a
    # multiple of 16, so the stack tells.
    testb $8, %spl
    jnz 1f
    pushq (%rsp)
    movq $0, 8(%rsp)
1:  pushq %rax
    pushq %rdx
    mov 16(%rsp), %rax
    mov 72(%rsp), %rdx
    cmp $FIRST_INTERRUPT, %rax
    jb exception
    lock incl interrupts(, %rax, 4)
    cmp $WATCHDOG, %rax
    je watchdog
    call end_of_interrupt
leave:
    popq %rdx
    popq %rax
    add $16, %rsp
    iretq
watchdog:
    call end_of_interrupt
    cmpq $0, (%rdx)
    je leave
exception:
    # The block: stack to go back to, vector, error code, RIP, CR2.
    mov 16(%rsp), %rax
    mov %rax, 8(%rdx)
    mov 24(%rsp), %rax
    mov %rax, 16(%rdx)
    mov 32(%rsp), %rax
    mov %rax, 24(%rdx)
    mov %cr2, %rax
    mov %rax, 32(%rdx)
    cmpq $0, (%rdx)
    je 1f
    mov (%rdx), %rsp
    mov $1, %eax
    jmp attempted
1:  mov %rdx, %rdi
    and $-16, %rsp
    call unexpected_exception
    ud2

end_of_interrupt:
    pushq %rcx
    cmpl $0, uses_x2apic
    jne 1f
    mov $END_OF_INTERRUPT, %eax
    movl $0, (%rax)
    popq %rcx
    ret
1:  pushq %rdx
    mov $0x80b, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
    popq %rdx
    popq %rcx
    ret

    # bool attempt(block, function, argument): true if an exception broke it off.
    .globl attempt
attempt:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    pushq (%rdi)
    pushq %rdi
    mov %rsp, (%rdi)
    sub $8, %rsp
    mov %rdx, %rdi
    call *%rsi
    add $8, %rsp
    xor %eax, %eax
attempted:
    popq %rdi
    popq (%rdi)
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    cld
    ret

    # What the compiler calls.
    .globl memcpy
    .globl memmove
    .globl memset
    .globl memcmp
    .globl bcmp
memmove:
    mov %rdi, %rax
    sub %rsi, %rax
    cmp %rdx, %rax
    jae memcpy
    mov %rdi, %rax
    mov %rdx, %rcx
    lea -1(%rdi, %rcx), %rdi
    lea -1(%rsi, %rcx), %rsi
    std
    rep movsb
    cld
    ret
memcpy:
    mov %rdi, %rax
    mov %rdx, %rcx
    rep movsb
    ret
memset:
    mov %rdi, %r8
    mov %esi, %eax
    mov %rdx, %rcx
    rep stosb
    mov %r8, %rax
    ret
bcmp:
memcmp:
    xor %eax, %eax
    xor %r8d, %r8d
    mov %rdx, %rcx
    cmp %rcx, %rcx
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %r8d
1:  sub %r8d, %eax
    ret

    .data
    .balign 8
compatibility_pointer:
    .long compatibility_mode
    .word CODE_32
    .balign 8
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
    .balign 8
    .globl gdt
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        # CODE_32
    .quad 0x00cf93000000ffff        # DATA
    .quad 0x00af9b000000ffff        # CODE_64
    .quad 0x00009b000000ffff        # CODE_16
    .quad 0x000093000000ffff        # DATA_16
    .quad 0, 0, 0, 0                # FIRST_TSS and the next
gdt_end:

    .bss
    .balign 4096
first_table:
    .space 0x1000
second_table:
    .space 0x1000
    .globl third_tables
third_tables:
    .space 0x4000
stacks:
    .space 2 * STACK_BYTES
    .globl idt
idt:
    .space 0x1000
    .globl interrupts
interrupts:
    .space 256 * 4
start_record:
    .long 0
    .globl uses_x2apic
uses_x2apic:
    .long 0
