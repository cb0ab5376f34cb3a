// Command conclave runs coordination recipes on etcd: a host for development,
// commands under locks, and etcd's own tools.
package main

import (
	"context"
	"os"

	"github.com/conclavehq/conclave/cmd/conclave/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}
