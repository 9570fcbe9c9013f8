/* Shows a program a processor with AVX2 and FMA, but without AVX-VNNI, AVX-512 and AMX: `LD_PRELOAD`ed, it makes the CPUID
 * instruction trap (Linux, x86-64, arch_prctl ARCH_SET_CPUID) and answers it itself with those bits cleared. So libraries
 * that choose their kernels at run time and have no switch for it run what they would on such a processor. */

#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef ARCH_SET_CPUID
#define ARCH_SET_CPUID 0x1012
#endif

#define BIT(n) (UINT32_C(1) << (n))

/* Intel SDM volume 2A, CPUID, leaf 7: AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL. */
static const uint32_t LEAF_7_0_EBX = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
/* AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ. */
static const uint32_t LEAF_7_0_ECX = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
/* AVX-512 4VNNIW, 4FMAPS, VP2INTERSECT, FP16; AMX BF16, TILE, INT8. */
static const uint32_t LEAF_7_0_EDX = BIT(2) | BIT(3) | BIT(8) | BIT(23) | BIT(22) | BIT(24) | BIT(25);
/* AVX-VNNI, AVX-512 BF16, AMX FP16, AVX-IFMA. */
static const uint32_t LEAF_7_1_EAX = BIT(4) | BIT(5) | BIT(21) | BIT(23);
/* AVX-VNNI-INT8, AVX-NE-CONVERT, AMX COMPLEX, AVX-VNNI-INT16, AVX10. */
static const uint32_t LEAF_7_1_EDX = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19);

static void answer(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    (void)info;
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) {
        /* A fault of the program's own: it meets its end when the instruction runs again. */
        signal(number, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], sub = (uint32_t)registers[REG_RCX];
    uint32_t a = leaf, b, c = sub, d;
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1UL);
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0UL);
    if (leaf == 7 && sub == 0) {
        b &= ~LEAF_7_0_EBX;
        c &= ~LEAF_7_0_ECX;
        d &= ~LEAF_7_0_EDX;
    }
    if (leaf == 7 && sub == 1) {
        a &= ~LEAF_7_1_EAX;
        d &= ~LEAF_7_1_EDX;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void narrow(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO;
    static const char refusal[] = "this system cannot hide instruction sets from programs (CPUID faulting)\n";
    if (sigaction(SIGSEGV, &action, NULL) != 0 || syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0UL) != 0) {
        (void)!write(2, refusal, sizeof refusal - 1);
        _exit(2);
    }
}
