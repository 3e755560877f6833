# From the boot loader, and from a CPU's reset, to Rust in long mode at the linked address.
#
# Two protocols lead here, both in 32-bit protected mode without paging: Multiboot 2 (EAX = magic,
# EBX = information) and PVH (EBX = start information, no magic, so one is put in EAX).
# Everything in this file runs at its physical address.

.set MULTIBOOT2_HEADER, 0xe85250d6
.set CR0_UP, 0x80010001             # paging, write protection, protected mode
.set CR0_CACHE_OFF, 0x60000000      # as INIT leaves a CPU
.set CR4_PAE, 0x20
.set EFER, 0xc0000080
.set EFER_UP, 0x900                 # long mode, no-execute
.set CPUID_NEEDED, 0x20100000       # long mode, no-execute
.set PRESENT_WRITABLE, 3
.set LARGE_PAGE, 0x83               # present, writable, 2 MiB

.section .boot.multiboot2, "a"
.balign 8
header:
    .long MULTIBOOT2_HEADER, 0, header_end - header
    .long 0x100000000 - (MULTIBOOT2_HEADER + (header_end - header))
    .balign 8
    .short 5, 1                     # framebuffer, if there is one
    .long 20, 1024, 768, 32
    .balign 8
    .short 6, 0                     # modules on page boundaries
    .long 8
    .balign 8
    .short 0, 0                     # end
    .long 8
header_end:

.section .note.pvh, "a", @note
.balign 4
    .long 4, 4, 18                  # name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_start

.section .boot.text, "ax"
.code32
.global multiboot_start
pvh_start:
    mov eax, {PVH_MAGIC}
multiboot_start:
    cli
    cld
    mov esp, offset boot_stack_top
    mov edi, eax                    # first argument: the protocol's magic
    mov esi, ebx                    # second argument: its information
    call check_cpu
    call build_boot_tables
    call enable_long_mode
    ljmp 8, offset boot_64

# A CPU without long mode or no-execute could only crash from here on; say so instead.
check_cpu:
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb 1f
    mov eax, 0x80000001
    cpuid
    and edx, CPUID_NEEDED
    cmp edx, CPUID_NEEDED
    jne 1f
    ret
1:  mov esi, offset cpu_message
2:  lodsb
    test al, al
    jz 3f
    mov dx, 0xe9                    # debug port of emulators
    out dx, al
    mov dx, 0x3f8                   # COM1, as the firmware left it
    out dx, al
    mov ecx, 10000                  # longer than a character takes
4:  in al, 0x80
    loop 4b
    jmp 2b
3:  hlt
    jmp 3b

# Identity map of the first 4 GiB, and its first GiB again at the linked address.
build_boot_tables:
    mov eax, offset boot_pdpt_low
    or eax, PRESENT_WRITABLE
    mov [boot_pml4], eax
    mov eax, offset boot_pdpt_high
    or eax, PRESENT_WRITABLE
    mov [boot_pml4 + 511 * 8], eax
    mov eax, offset boot_directories
    or eax, PRESENT_WRITABLE
    mov [boot_pdpt_high + 510 * 8], eax
    xor ecx, ecx
1:  mov [boot_pdpt_low + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, 4
    jne 1b
    xor ecx, ecx
    mov eax, LARGE_PAGE
2:  mov [boot_directories + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 2048
    jne 2b
    ret

# Turns paging on; EDI and ESI survive.
enable_long_mode:
    mov eax, offset boot_pml4
    mov cr3, eax
    mov eax, cr4
    or eax, CR4_PAE
    mov cr4, eax
    mov ecx, EFER
    rdmsr
    or eax, EFER_UP
    wrmsr
    mov eax, cr0
    and eax, ~CR0_CACHE_OFF
    or eax, CR0_UP
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    ret

# An AP comes here from its trampoline, with flat 32-bit segments.
.global ap_start_32
ap_start_32:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, offset boot_stack_top
    call enable_long_mode
    ljmp 8, offset ap_64

.code64
boot_64:
    call load_data_segments
    movabs rsp, offset {STACKS} + {BOOT_STACK_TOP}
    xor ebp, ebp
    movabs rax, offset {KERNEL_START}
    call rax
    ud2

# The stack was chosen by the CPU that started this one.
ap_64:
    call load_data_segments
    movabs rax, offset {AP_STACK}
    mov rsp, [rax]
    xor ebp, ebp
    movabs rax, offset {AP_START}
    call rax
    ud2

load_data_segments:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov eax, 0x10
    mov ss, eax
    ret

# Copied below 1 MiB, where an AP begins in real mode with CS:IP at the start of the copy.
.code16
.balign 8
.global ap_trampoline
.global ap_trampoline_end
ap_trampoline:
    jmp 1f
.balign 8
    .short boot_gdt_end - boot_gdt - 1      # at offset 8 of the copy
    .long boot_gdt
1:  cli
    cld
    mov ax, cs
    mov ds, ax
    lgdtd ds:[8]
    mov eax, cr0
    and eax, ~CR0_CACHE_OFF
    or eax, 1
    mov cr0, eax
    .byte 0x66, 0xea                        # far jump with a 32-bit offset
    .long ap_start_32
    .short 0x18
ap_trampoline_end:
.code64

.section .boot.data, "aw"
cpu_message:
    .asciz "kernel: this CPU has no 64-bit mode with no-execute pages\r\n"
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 0x08: 64-bit code
    .quad 0x00cf93000000ffff        # 0x10: data
    .quad 0x00cf9b000000ffff        # 0x18: 32-bit code
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt

.section .boot.bss, "aw", @nobits
.balign 4096
.global boot_pml4
boot_pml4:        .skip 4096
boot_pdpt_low:    .skip 4096
boot_pdpt_high:   .skip 4096
boot_directories: .skip 4 * 4096
                  .skip 4096
boot_stack_top:
.text
