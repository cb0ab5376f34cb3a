package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"github.com/conclavehq/conclave/cmd/conclave/internal/nodes"
	"github.com/conclavehq/conclave/core/host"
)

// A nodeOrder is what a dev tells the process of one of its nodes.
type nodeOrder struct {
	Config  host.Config `json:"config"`
	Plugins []string    `json:"plugins"` // of --plugin
}

// A nodeFailure is what a node tells its dev when it could not start.
type nodeFailure struct {
	Exit  int    `json:"exit"`
	Error *Error `json:"error"`
}

// node runs one node of a dev: what it is, and that it is to stop, comes by its
// standard input.
func (a *app) node(ctx context.Context) int {
	in := bufio.NewReader(a.stdin)
	line, err := in.ReadBytes('\n')
	var order nodeOrder
	if err == nil {
		err = json.Unmarshal(line, &order)
	}
	if err != nil {
		a.note(fmt.Sprintf("this is for conclave dev alone: %v", err))
		return ExitUsage
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// It reads until the process ends, which is the only way to end a read.
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	if err := a.runNode(ctx, order.Config, order.Plugins); err != nil {
		e := describe(err)
		// A dev that has died reads it no more.
		b, _ := json.Marshal(nodeFailure{e.Exit, e})
		_, _ = fmt.Fprintf(a.stdout, "%s %s\n", nodes.FailedWord, b)
		return e.Exit
	}
	return ExitOK
}

func (a *app) runNode(ctx context.Context, cfg host.Config, plugins []string) error {
	cfg.Version = readVersion().Version
	log := newGate(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return a.runHost(ctx, hostRun{
		config: cfg, plugins: plugins, dev: true, log: slog.New(log), start: serveStart, // it may be started long before the others
		ready: func(h *host.Host) func() {
			log.open.Store(true)
			a.sayReady(h)
			return func() {}
		},
		stop: func() { log.open.Store(false) },
		explain: func(err error) error {
			return hostError(err, cfg.Etcd.ListenClient+" or "+cfg.Etcd.ListenPeer,
				"conclave dev --api-addr 127.0.0.1:0 --client-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0")
		},
	})
}
