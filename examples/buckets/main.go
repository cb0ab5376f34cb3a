// Command buckets is a Conclave host whose snapshots go to buckets that the
// conclave command cannot reach, because it links the driver of files alone. What
// links another is an import.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"

	"go.uber.org/fx"
	_ "gocloud.dev/blob/memblob" // mem://, for this example; s3blob, gcsblob and azureblob are beside it

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/recipes/lock"
	"github.com/conclavehq/conclave/recipes/queue"
)

func main() {
	file := flag.String("config", "conclave.yaml", "the host's configuration, with snapshots: {to: mem://}")
	flag.Parse()
	config, err := host.Load(*file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fx.New(
		fx.NopLogger, host.Module, fx.Supply(config, slog.Default()),
		host.Add(host.WithRecipe(lock.Recipe{}), host.WithRecipe(queue.Recipe{})), // and whichever others you want
	).Run()
}
