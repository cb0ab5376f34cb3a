// Command nightly runs a job on one of any number of machines that all start it
// at the same time. The others see that it is taken care of, and leave.
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

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func main() {
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "etcd's client URLs, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err == nil {
		err = nightly(ctx, client, os.Stdout, cleanUp)
		err = errors.Join(err, client.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// nightly runs job, unless it runs somewhere else already. The context that the
// job gets ends when the lock is lost: the job must then stop, for another
// machine may begin.
func nightly(ctx context.Context, client *clientv3.Client, out io.Writer, job func(ctx context.Context, out io.Writer) error) error {
	// snippet:nightly
	session, err := core.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer session.Close()
	held, err := lock.NewMutex(session, "nightly", lock.WithPurpose("clean up")).TryLock(ctx)
	if errors.Is(err, lock.ErrLocked) {
		_, err = fmt.Fprintln(out, "nothing to do:", err)
		return err
	}
	if err != nil {
		return err
	}
	err = job(held.Context(), out)
	return errors.Join(err, held.Unlock())
	// end
}

// cleanUp is the job: in a real program, something that takes a while.
func cleanUp(ctx context.Context, out io.Writer) error {
	for _, what := range []string{"sessions", "uploads", "reports"} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := fmt.Fprintln(out, "cleaned up", what); err != nil {
			return err
		}
	}
	return nil
}
