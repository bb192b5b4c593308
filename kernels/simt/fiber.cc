// SPDX-License-Identifier: BSD-3-Clause
// Fibers: by hand on x86-64, where a kernel's thousands of threads change
// places all the time; by ucontext elsewhere.
#include "kernels/simt/fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif

#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>

// Thousands of fibers would have a second stack each.
extern "C" const char *__asan_default_options()
{
    return "detect_stack_use_after_return=0";
}
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

// Most of it is never touched.
#define STACK_BYTES ((size_t)256 << 10)

static thread_local struct fiber *arriving; // who is switched to
static thread_local struct fiber *leaving;

// Of the fiber that has just begun to run.
static void arrived()
{
#ifdef FIBER_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(arriving->sanitizer, &bottom, &size);
    if (leaving->stack == NULL) { // the thread's own stack is learnt here
        leaving->argument = (void *)(uintptr_t)bottom;
        leaving->size = size;
    }
#endif
}

static void begin()
{
    arrived();
    arriving->entry(arriving->argument);
    abort();
}

#if defined(__x86_64__)
// Saves what a function must keep, and goes on where `to` was saved.
extern "C" void tally_simt_switch(void **from, void *to);
__asm__(".text\n"
        ".type tally_simt_switch, @function\n"
        "tally_simt_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size tally_simt_switch, . - tally_simt_switch\n");

static void place_make(struct fiber *fiber)
{
    // Six registers, the address to return to, and one word that keeps the
    // stack aligned as after a call.
    void **top = (void **)(void *)(fiber->stack + fiber->size) - 8;

    for (int i = 0; i < 8; i++)
        top[i] = NULL;
    top[6] = (void *)begin;
    fiber->place = top;
}

static void place_switch(struct fiber *from, struct fiber *to)
{
    tally_simt_switch(&from->place, to->place);
}

static void place_free(struct fiber *)
{
}
#else
static void place_make(struct fiber *fiber)
{
    ucontext_t *context = (ucontext_t *)fiber->place;

    if (context == NULL)
        context = (ucontext_t *)calloc(1, sizeof(*context));
    getcontext(context);
    context->uc_stack.ss_sp = fiber->stack;
    context->uc_stack.ss_size = fiber->size;
    makecontext(context, begin, 0);
    fiber->place = context;
}

static void place_switch(struct fiber *from, struct fiber *to)
{
    if (from->place == NULL)
        from->place = calloc(1, sizeof(ucontext_t));
    swapcontext((ucontext_t *)from->place, (ucontext_t *)to->place);
}

static void place_free(struct fiber *fiber)
{
    free(fiber->place);
}
#endif

void fiber_adopt(struct fiber *fiber)
{
    *fiber = {};
#ifdef FIBER_TSAN
    fiber->thread = __tsan_get_current_fiber();
#endif
}

void fiber_create(struct fiber *fiber, void (*entry)(void *), void *argument)
{
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (stack == MAP_FAILED) {
        perror("simt: no memory for a stack");
        abort();
    }
    *fiber = {};
    fiber->stack = (char *)stack;
    fiber->size = STACK_BYTES;
    fiber->entry = entry;
    fiber->argument = argument;
#ifdef FIBER_TSAN
    fiber->thread = __tsan_create_fiber(0);
#endif
    place_make(fiber);
}

void fiber_rewind(struct fiber *fiber)
{
    fiber->sanitizer = NULL;
    place_make(fiber);
}

void fiber_free(struct fiber *fiber)
{
#ifdef FIBER_TSAN
    __tsan_destroy_fiber(fiber->thread);
#endif
    munmap(fiber->stack, fiber->size);
    place_free(fiber);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    leaving = from;
    arriving = to;
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->sanitizer,
                                   to->stack != NULL ? to->stack : to->argument,
                                   to->size);
#endif
#ifdef FIBER_TSAN
    __tsan_switch_to_fiber(to->thread, 0);
#endif
    place_switch(from, to);
    arrived();
}
