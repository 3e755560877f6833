# What the guests of the probe run, copied to guest-physical CODE_BASE; addresses are written as
# `label - guest_image + CODE_BASE`. In AT&T syntax, where an address cannot be taken for a number.
# Ports 0x80 and up only mark how far a guest came.

.set CODE_BASE, 0x1000

.section .rodata.guest, "a"
.balign 16
.global guest_image
guest_image:

# Copied to the last 16 bytes below 4 GiB.
.code16
.global reset_vector
reset_vector:
    movb $0x5a, %al
    outb %al, $0x80
    hlt

.global port_io
port_io:
    movb $0x42, %al
    outb %al, $0x80
    movw $0x1f0, %dx
    movw $0x1234, %ax
    outw %ax, %dx
    movl $0x89abcdef, %eax
    outl %eax, %dx
    inb $0x64, %al
    inw %dx, %ax
    inl %dx, %eax
    outb %al, $0x80
    movw $0x2000, %si
    movw $3, %cx
    cld
    rep outsb
    hlt

.global cpuid_and_msrs
cpuid_and_msrs:
    movl $0x40000001, %eax
    movl $7, %ecx
    cpuid
    hlt
    movl $0x1b, %ecx
    rdmsr
    movl $0x1b, %ecx
    movl $0xfee00900, %eax
    movl $5, %edx
    wrmsr
    movl $0xc0000082, %ecx          # LSTAR is the guest's own
    movl $0x11223344, %eax
    movl $0x5566, %edx
    wrmsr
    xorl %eax, %eax
    xorl %edx, %edx
    rdmsr
    movl %eax, %ebx
    rdtsc
    hlt

.global memory_faults
memory_faults:
    movw $0x4000, %ax
    movw %ax, %ds
    movb 0x10, %al
.global memory_write
memory_write:
    movb %al, 0x20
.global memory_read_only
memory_read_only:
    movw $0x3f00, %ax
    movw %ax, %ds
    movb 0x30, %al
.global memory_read_only_write
memory_read_only_write:
    movb %al, 0x30
.global memory_fetch
memory_fetch:
    ljmpw $0x5000, $0x0040

.global interrupts
interrupts:
    cli
    outb %al, $0x80
    sti
    nop
.global interrupts_open
interrupts_open:
    nop
    outb %al, $0x84
    int $0x21
    nop
    sti
.global interrupts_idle
interrupts_idle:
    hlt
    nop
    hlt
.global handler_interrupt
handler_interrupt:
    outb %al, $0x81
    iretw
# Takes some ten milliseconds of QEMU's emulation, in which nothing exits.
.global handler_slow
handler_slow:
    incl 0x3000
    movl $10000000, %ecx
1:  decl %ecx
    jnz 1b
    outb %al, $0x81
    iretw
.global handler_nmi
handler_nmi:
    outb %al, $0x82
    iretw
.global handler_fault
handler_fault:
    outb %al, $0x83
    iretw
.global handler_software
handler_software:
    outb %al, $0x85
    iretw

# Spins with interrupts off. They are switched on and off without a gap, because Bochs looks only
# at a change whether the host's interrupts come through.
.global real_spin
real_spin:
    incl 0x3000
    sti
    cli
    jmp real_spin

# Caches on but not write-through: CR0 that no CPU takes.
.global odd_cr0
odd_cr0:
    movl $0x20000010, %eax
    movl %eax, %cr0
    jmp real_spin

# From reset to 64-bit code, with a stop in each mode.
.global long_mode
long_mode:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl (gdt_pointer - guest_image + CODE_BASE)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $(protected - guest_image + CODE_BASE)
.code32
protected:
    movw $0x10, %ax
    movw %ax, %ss
    movw %ax, %ds
    movw %ax, %es
    outb %al, $0x80
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0x10000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl $0x80050033, %eax
    movl %eax, %cr0
    ljmpl $0x18, $(long_entry - guest_image + CODE_BASE)
.code64
long_entry:
    movl $0x8000, %esp
    movq %cr0, %rbx
    movq %cr4, %rcx
    outb %al, $0x80
    movq %cr0, %rax
    orq $0x60000000, %rax           # CD and NW on, and off again
    movq %rax, %cr0
    movq %cr0, %rbx
    andq $~0x60000000, %rax
    movq %rax, %cr0
    movq %cr0, %rcx
    outb %al, $0x80
    hlt

# 32-bit paging with PAE, whose first level the CPU keeps inside.
.code32
.global pae_paging
pae_paging:
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0x15000, %eax
    movl %eax, %cr3
    movl $0x80000011, %eax
    movl %eax, %cr0
    movl 0x3000, %ebx
    outb %al, $0x80
    movl 0x3000, %ebx
    outb %al, $0x80
    hlt

.code64
# A fault of the guest's own, which its handler sees.
.global page_fault
page_fault:
    movq (%rdi), %rax
    hlt
.global handler_page_fault
handler_page_fault:
    movq %cr2, %rax
    popq %rbx
    outb %al, $0x86
    hlt

.global undefined
undefined:
    ud2
    hlt
.global handler_undefined
handler_undefined:
    outb %al, $0x87
    hlt
.global handler_protection
handler_protection:
    popq %rbx
    outb %al, $0x89
    hlt
.global handler_long_interrupt
handler_long_interrupt:
    outb %al, $0x88
    iretq

.global vector_registers
vector_registers:
    movq %rax, %xmm5
    outb %al, $0x80
    movq %xmm5, %rbx
    outb %al, $0x80
    xorl %ecx, %ecx
    xorl %edx, %edx
    movl $3, %eax
.global write_xcr0
write_xcr0:
    xsetbv
    xorl %ecx, %ecx
    xgetbv
    outb %al, $0x80
    hlt

# EAX into the rights of the protection keys, and out of them.
.global write_key_rights
write_key_rights:
    xorl %ecx, %ecx
    xorl %edx, %edx
    wrpkru
    outb %al, $0x80
.global read_key_rights
read_key_rights:
    xorl %ecx, %ecx
    rdpkru
    outb %al, $0x80
    hlt

.macro write_msr number, value
    movl $\number, %ecx
    movl $\value, %eax
    movl $(\value >> 32), %edx
    wrmsr
.endm

# What the guest may do with its own registers without anybody noticing.
.global own_msrs
own_msrs:
    write_msr 0xc0000081, 0x0023001000000000
    write_msr 0xc0000082, 0x00007abc11112222
    write_msr 0xc0000083, 0x00007abc33334444
    write_msr 0xc0000084, 0x0000000000047700
    write_msr 0xc0000100, 0x00007abc55556666
    write_msr 0xc0000101, 0x00007abc77778888
    write_msr 0xc0000102, 0x00007abc9999aaaa
    write_msr 0x175, 0x00007abcbbbbcccc
    outb %al, $0x80
    movl $0xc0000082, %ecx
    rdmsr
    movl %eax, %ebx
    movl $0xc0000102, %ecx
    rdmsr
    outb %al, $0x80
    hlt

# One instruction after the other that the monitor must see.
.global privileged
privileged:
    movq %rsi, %cr8
    movq %cr8, %rdi
    movq %rbp, %dr7
    movq %dr3, %rbx
    wbinvd
    invd
    rdpmc
    monitor
    mwait
    movl $0x2020, %eax              # a bit of CR4 that the guest does not have
    movq %rax, %cr4
    hlt

.global hypercall_intel
hypercall_intel:
    vmcall
    movq %cr0, %rax
    vmxoff
.global hypercall_amd
hypercall_amd:
    vmmcall
    movq %cr0, %rax
    clgi

.global read_twice
read_twice:
    movq (%rdi), %rbx
    outb %al, $0x80
    movq (%rdi), %rbx
    outb %al, $0x80
    hlt

.global spin
spin:
    lock incq (%rdi)
    sti
    cli
    jmp spin

.global count_cpuids
count_cpuids:
    cpuid
    jmp count_cpuids

.global mark_forever
mark_forever:
    outb %al, $0x80
    jmp mark_forever

.global out_and_halt
out_and_halt:
    outb %al, $0x80
    hlt

.balign 8
.global gdt
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        # 0x08: 32-bit code
    .quad 0x00cf93000000ffff        # 0x10: data
    .quad 0x00af9b000000ffff        # 0x18: 64-bit code
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt - guest_image + CODE_BASE

.global guest_image_end
guest_image_end:
.text
