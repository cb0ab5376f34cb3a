// Command phases runs a batch job in which ten workers enter each phase together:
// nobody begins with the next one before all have done the last one. Start it ten
// times, on as many machines as you like.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

// workers is how many take part.
const workers = 10

// phases are what the job does, one after the other.
var phases = []string{"extract", "transform", "load"}

func main() {
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "etcd's client URLs, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err == nil {
		err = run(ctx, client, "nightly-import", os.Stdout, step)
		err = errors.Join(err, client.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is one worker. If another one dies while they wait for each other, it says
// who; the others must not begin a phase that nobody will end.
func run(ctx context.Context, client *clientv3.Client, name string, out io.Writer, work func(ctx context.Context, phase string, out io.Writer) error) error {
	// snippet:phases
	session, err := core.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer session.Close()
	together := barrier.NewDouble(session, name, workers, barrier.WithBreakOnLoss())
	for _, phase := range phases {
		entry, err := together.Enter(ctx)
		if lost, ok := barrier.LostMember(err); ok {
			return fmt.Errorf("worker %s is missing: %w", lost, err)
		}
		if err != nil {
			return err
		}
		// All ten are here. The context ends if this worker is cut off.
		err = work(entry.Context(), phase, out)
		if err := errors.Join(err, entry.Leave(ctx)); err != nil {
			return err
		}
	}
	return nil
	// end
}

// step is the work of one phase: in a real program, something that takes a while.
func step(ctx context.Context, phase string, out io.Writer) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := fmt.Fprintln(out, phase, "done")
	return err
}
