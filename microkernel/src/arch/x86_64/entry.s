# User mode to kernel and back.
#
# The kernel has one stack for each CPU and none for each thread: an entry stores the user's
# registers straight into the current thread's TCB and starts at the top of the stack; whatever
# the handler left on the stack is dropped at exit. GS, after `swapgs`, is the CPU's own area
# (cpu.rs), whose `current` is the TCB that user mode runs. Interrupts are off throughout.
#
# Registers of a TCB are named {RIP}, {RSP} ...: offsets from the TCB's address. Besides,
# `restart_ip` is where the thread goes on if its entry is undone: two bytes before RIP after a
# `syscall`, else RIP itself. Whoever changes a thread's registers makes the two equal, so the
# difference also says that RCX and R11 are the user's to lose and that RFLAGS are as user code
# had them: `sysret` can bring the thread back.

.text

# `syscall`: RCX = return address, R11 = flags, RSP the user's. The two words that decide most about
# a call, RDI (capability) and RSI (message info), already are the first arguments of the handler; the
# TCB is the third. Handlers do not return, here and below: they are jumped to, with RSP as a call
# would leave it. This one sets the TCB's RCX and R11 if it needs them.
.balign 64
.global syscall_entry
syscall_entry:
    swapgs
    mov gs:[{CPU_USER_RSP}], rsp
    mov rsp, gs:[{CPU_CURRENT}]
    mov [rsp + {RIP}], rcx
    mov [rsp + {RFLAGS}], r11
    sub rcx, 2                      # the instruction itself, to run it again
    mov [rsp + {RESTART_IP}], rcx
    mov rcx, gs:[{CPU_USER_RSP}]
    mov [rsp + {RSP}], rcx
    mov [rsp + {RAX}], rax
    mov [rsp + {RBX}], rbx
    mov [rsp + {RDX}], rdx
    mov [rsp + {RSI}], rsi
    mov [rsp + {RDI}], rdi
    mov [rsp + {RBP}], rbp
    mov [rsp + {R8}], r8
    mov [rsp + {R9}], r9
    mov [rsp + {R10}], r10
    mov [rsp + {R12}], r12
    mov [rsp + {R13}], r13
    mov [rsp + {R14}], r14
    mov [rsp + {R15}], r15
    cmp rdx, {CALL_NUMBER}
    mov rdx, rsp
    mov rsp, gs:[{CPU_HANDLER_STACK}]
    je {CALL}
    cmp qword ptr [rdx + {RDX}], {REPLY_RECV_NUMBER}
    je {REPLY_RECV}
    jmp {SYSCALL}

# Back to user mode, in the thread whose TCB is in RAX. `sysret` loads RIP from RCX and RFLAGS
# from R11. Given an address that is not canonical it would fault in the kernel, on the user's stack;
# behind a `syscall` there is none, because nobody can map the last page of the lower half.
.balign 64
.global exit_to_user
exit_to_user:
    mov gs:[{CPU_CURRENT}], rax
    mov rcx, [rax + {RIP}]
    lea rdx, [rcx - 2]
    cmp rdx, [rax + {RESTART_IP}]
    jne exit_by_iret
    mov r11, [rax + {RFLAGS}]
    mov rbx, [rax + {RBX}]
    mov rdx, [rax + {RDX}]
    mov rsi, [rax + {RSI}]
    mov rdi, [rax + {RDI}]
    mov rbp, [rax + {RBP}]
    mov r8, [rax + {R8}]
    mov r9, [rax + {R9}]
    mov r10, [rax + {R10}]
    mov r12, [rax + {R12}]
    mov r13, [rax + {R13}]
    mov r14, [rax + {R14}]
    mov r15, [rax + {R15}]
    mov rsp, [rax + {RSP}]
    mov rax, [rax + {RAX}]
    swapgs
    sysretq

# Any registers, any canonical address. The frame is built on the kernel stack.
exit_by_iret:
    mov rsp, gs:[{CPU_HANDLER_STACK}]
    mov r11, [rax + {RFLAGS}]
    and r11d, {USER_FLAGS}
    or r11d, {FIXED_FLAGS}
    push {USER_SS}
    push [rax + {RSP}]
    push r11
    push {USER_CS}
    # An address that is not canonical would fault here, in the kernel; sign-extended it faults
    # at the user's next instruction.
    shl rcx, 16
    sar rcx, 16
    push rcx
    mov rbx, [rax + {RBX}]
    mov rcx, [rax + {RCX}]
    mov rdx, [rax + {RDX}]
    mov rsi, [rax + {RSI}]
    mov rdi, [rax + {RDI}]
    mov rbp, [rax + {RBP}]
    mov r8, [rax + {R8}]
    mov r9, [rax + {R9}]
    mov r10, [rax + {R10}]
    mov r11, [rax + {R11}]
    mov r12, [rax + {R12}]
    mov r13, [rax + {R13}]
    mov r14, [rax + {R14}]
    mov r15, [rax + {R15}]
    mov rax, [rax + {RAX}]
    swapgs
    iretq

# Exceptions and interrupts. Each vector has a stub of 16 bytes that makes all frames alike:
#   [rsp] vector, error code (0 if the CPU pushes none), RIP, CS, RFLAGS, RSP, SS
.balign 16
.global vector_stubs
vector_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if (vector != 8) && ((vector < 10) || (vector > 14)) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
    push 0
    .endif
    push vector
    jmp trap_entry
    .set vector, vector + 1
.endr

.balign 64
trap_entry:
    test byte ptr [rsp + 24], 3
    jz trap_from_kernel
    swapgs
    push rax
    mov rax, gs:[{CPU_CURRENT}]
    mov [rax + {RBX}], rbx
    mov [rax + {RCX}], rcx
    mov [rax + {RDX}], rdx
    mov [rax + {RSI}], rsi
    mov [rax + {RDI}], rdi
    mov [rax + {RBP}], rbp
    mov [rax + {R8}], r8
    mov [rax + {R9}], r9
    mov [rax + {R10}], r10
    mov [rax + {R11}], r11
    mov [rax + {R12}], r12
    mov [rax + {R13}], r13
    mov [rax + {R14}], r14
    mov [rax + {R15}], r15
    pop [rax + {RAX}]
    pop rdi                         # vector
    pop rsi                         # error code
    pop rcx
    mov [rax + {RIP}], rcx
    mov [rax + {RESTART_IP}], rcx
    add rsp, 8                      # CS
    pop [rax + {RFLAGS}]
    pop [rax + {RSP}]
    mov rdx, rax
trap_handle:
    push 2                          # gates leave the user's direction and alignment flags
    popfq
    mov rsp, gs:[{CPU_HANDLER_STACK}]
    jmp {TRAP}

# Interrupts are on in the kernel only while it idles, and what it was doing then is nothing that
# must be kept. An exception is the kernel's own mistake.
trap_from_kernel:
    cmp qword ptr [rsp], {FIRST_INTERRUPT}
    jb fatal_entry
    pop rdi
    xor esi, esi
    mov rdx, gs:[{CPU_CURRENT}]
    jmp trap_handle

# Double faults and machine checks arrive on a stack of their own and use no CPU area: nothing is
# known of the state that they broke into.
.global fatal_entry
fatal_entry:
    push r15
    push r14
    push r13
    push r12
    push r11
    push r10
    push r9
    push r8
    push rbp
    push rdi
    push rsi
    push rdx
    push rcx
    push rbx
    push rax
    mov rdi, rsp
    and rsp, -16
    cld
    call {FATAL}
    ud2

# Non-maskable interrupts are ignored: nothing here uses them, and they may arrive between any two
# instructions above.
.global nmi_entry
nmi_entry:
    iretq

# Waits for interrupts at the top of this CPU's stack, which is RDI.
.global idle_loop
idle_loop:
    mov rsp, rdi
1:  sti
    hlt
    jmp 1b

# These two come with a stack of their own and are fatal from wherever they come.
.global double_fault_entry
double_fault_entry:
    push 8
    jmp fatal_entry
.global machine_check_entry
machine_check_entry:
    push 0
    push 18
    jmp fatal_entry
