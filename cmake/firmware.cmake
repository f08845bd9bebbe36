# tonearm_firmware(TARGET [stack bytes]): gives a C program what toolchain/boards/board.h promises. On a processor
# without a system that is the start-up code and the memory of a board, with 8192 bytes of stack unless told
# otherwise, and qemu as the target's emulator; elsewhere it is the system's own calls. Firmware has no heap:
# there is no _sbrk, so that a program that allocates does not link.
include_guard(DIRECTORY)  # the variables below are seen in one directory

set(TONEARM_BOARDS_DIR ${CMAKE_CURRENT_LIST_DIR}/../toolchain/boards)

# For each CMAKE_SYSTEM_PROCESSOR: qemu's board; where its code memory begins and how long it is; the same of
# its data memory; the processor's clock in Hz.
set(tonearm_board_cortex-m4 mps2-an386 0x00000000 4M 0x20000000 4M 25000000)
set(tonearm_board_cortex-m7 mps2-an500 0x00000000 4M 0x20000000 4M 25000000)
set(tonearm_board_cortex-m33 mps2-an505 0x10000000 4M 0x38000000 2M 20000000)
set(tonearm_board_cortex-m55 mps3-an547 0x10000000 512K 0x30000000 512K 32000000)
set(tonearm_board_rv32imc virt 0x80000000 4M 0x80400000 4M 1000000000)

function(tonearm_firmware target)
  target_include_directories(${target} PRIVATE ${TONEARM_BOARDS_DIR})
  if(NOT DEFINED tonearm_board_${CMAKE_SYSTEM_PROCESSOR})
    target_sources(${target} PRIVATE ${TONEARM_BOARDS_DIR}/host.c)
    return()
  endif()
  set(stack 8192)
  if(ARGC GREATER 1)
    set(stack ${ARGV1})
  endif()

  set(description ${tonearm_board_${CMAKE_SYSTEM_PROCESSOR}})
  list(POP_FRONT description board code_origin code_length data_origin data_length clock)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^cortex-m")
    set(emulator qemu-system-arm -M ${board})
    set(start_up ${TONEARM_BOARDS_DIR}/cortex-m.c)
  else()
    # Without the extensions that rv32imc lacks, so that their instructions trap.
    set(emulator qemu-system-riscv32 -M ${board} -bios none -cpu rv32,a=false,f=false,d=false)
    set(start_up ${TONEARM_BOARDS_DIR}/rv32.c)
  endif()
  target_sources(${target} PRIVATE ${start_up} ${TONEARM_BOARDS_DIR}/start.c)
  target_compile_definitions(${target} PRIVATE BOARD_CLOCK=${clock})
  target_link_options(${target} PRIVATE -nostartfiles -T ${TONEARM_BOARDS_DIR}/board.ld
    LINKER:--gc-sections,--fatal-warnings
    LINKER:--defsym=code_origin=${code_origin},--defsym=code_length=${code_length}
    LINKER:--defsym=data_origin=${data_origin},--defsym=data_length=${data_length}
    LINKER:--defsym=stack_bytes=${stack})
  set_target_properties(${target} PROPERTIES
    SUFFIX .elf
    LINKER_LANGUAGE C  # the C driver, which names no C++ library
    LINK_DEPENDS ${TONEARM_BOARDS_DIR}/board.ld
    CROSSCOMPILING_EMULATOR "${emulator};-display;none;-monitor;none;-serial;none;-chardev;stdio,id=text;\
-semihosting-config;enable=on,target=native,chardev=text;-icount;shift=0;-kernel")
endfunction()
