#include <stdio.h>
#include <unistd.h>

/* As whom a program runs that root made setuid. */
int main(void) { return printf("%d\n", (int)geteuid()) < 0; }
