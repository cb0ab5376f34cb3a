package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core/embedded"
)

const (
	defaultClientAddr = "127.0.0.1:2379"
	defaultPeerAddr   = "127.0.0.1:2380"

	devStart = 30 * time.Second // a database that must be recovered takes time
	devStop  = 2 * time.Second
)

type devFlags struct {
	dataDir, clientAddr, peerAddr, apiAddr string
}

func (a *app) devCommand() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an etcd for development in this terminal",
		Long: `dev runs one etcd member in this process, on loopback, without configuration, until
Ctrl-C. It prints "ready etcd=URL" on stdout when it serves. Other commands of the
same user on this machine find it without flags.

Without --data-dir the data is kept in a directory under the user's cache, which is
named in the output.`,
		Example: `  conclave dev
  conclave dev --data-dir ./data
  conclave dev --client-addr 127.0.0.1:0     # any free port`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.dataDir, "data-dir", "", "directory for the data")
	fs.StringVar(&f.clientAddr, "client-addr", defaultClientAddr, "host:port for etcd clients; port 0 takes a free one")
	fs.StringVar(&f.peerAddr, "peer-addr", defaultPeerAddr, "host:port for raft; port 0 takes a free one")
	fs.StringVar(&f.apiAddr, "api-addr", "", "reserved for the host API, which this build does not have")
	return cmd
}

func (a *app) dev(ctx context.Context, f devFlags) error {
	ctx, stop := signal.NotifyContext(ctx, ending()...)
	defer stop()
	if err := checkLoopback("client-addr", f.clientAddr); err != nil {
		return err
	}
	if err := checkLoopback("peer-addr", f.peerAddr); err != nil {
		return err
	}
	if f.apiAddr != "" {
		a.note("this build has no host API: nothing listens on --api-addr")
	}
	dir, err := a.devDataDir(f)
	if err != nil {
		return err
	}
	log := newGate(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	starting, cancel := context.WithTimeout(ctx, devStart)
	defer cancel()
	m, err := embedded.Start(starting, embedded.Config{
		Name: "dev", DataDir: dir, ClientAddr: f.clientAddr, PeerAddr: f.peerAddr, Fast: true,
		Logger:  slog.New(log),
		OnFatal: func(reason string) { a.note("etcd has to end the process: " + oneLine(errors.New(reason))) },
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // interrupted before it served
		}
		return devError(err, f, dir)
	}
	return a.serveDev(ctx, stop, log, m)
}

// serveDev says where the member serves and waits for its end or the user's wish.
func (a *app) serveDev(ctx context.Context, restoreSignals func(), log gate, m *embedded.Member) error {
	remove, err := a.announce(devState{PID: os.Getpid(), Endpoints: m.Endpoints(), DataDir: m.DataDir()})
	if err != nil {
		a.note(fmt.Sprintf("other commands will need --endpoints to find this one: %v", err))
	} else {
		defer remove()
	}
	a.note("data directory " + m.DataDir())
	log.open.Store(true)
	if _, err := fmt.Fprintf(a.stdout, "ready etcd=%s\n", strings.Join(m.Endpoints(), ",")); err != nil {
		a.note(fmt.Sprintf("nobody reads that it is ready: %v", err))
	}
	select {
	case <-m.Done():
	case <-ctx.Done():
		a.note("stopping")
		log.open.Store(false)
		// A second signal ends the process at once.
		restoreSignals()
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), devStop)
	defer cancel()
	return m.Stop(stopping)
}

func (a *app) devDataDir(f devFlags) (string, error) {
	if f.dataDir != "" {
		return filepath.Abs(f.dataDir)
	}
	cache, err := a.cacheDir()
	if err != nil {
		return "", usage("invalid_data-dir", "name one with --data-dir", "no directory for the data: %v", err)
	}
	name := "dev"
	if f.clientAddr != defaultClientAddr {
		// Two of them, on two ports, are two stores.
		_, port, _ := net.SplitHostPort(f.clientAddr)
		name += "-" + port
	}
	return filepath.Join(cache, name), nil
}

// checkLoopback refuses an address that other machines can reach: dev asks
// nobody who they are.
func checkLoopback(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usage("invalid_"+flag, "such as 127.0.0.1:2379", "--%s: %v", flag, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return usage("invalid_"+flag, "use 127.0.0.1",
		"--%s: %s is not a loopback address, and dev neither encrypts nor asks who calls", flag, addr)
}

// devError says what stands in the way of a start, and what to do about it.
func devError(err error, f devFlags, dir string) error {
	e := &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "failed", Message: oneLine(err), cause: err}
	switch {
	case errors.Is(err, embedded.ErrDataDirInUse):
		e.Reason = "data_dir_in_use"
		e.Hint = "stop that process, or use another directory with --data-dir"
	case errors.Is(err, embedded.ErrPortInUse):
		e.Reason = "address_in_use"
		e.Message = fmt.Sprintf("%s or %s is in use: another process listens there, perhaps another conclave dev", f.clientAddr, f.peerAddr)
		e.Hint = "stop it, or use free ports: conclave dev --client-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0"
	case errors.Is(err, embedded.ErrCorrupt):
		e.Reason = "corrupt"
		e.Hint = fmt.Sprintf("restore it with conclave etcdutl snapshot restore, or move %s away to start empty", dir)
	case errors.Is(err, embedded.ErrConfig):
		e.Exit, e.Code, e.Reason = ExitUsage, "invalid_argument", "invalid_argument"
	case errors.Is(err, embedded.ErrNoQuorum):
		e.Exit, e.Code, e.Reason = ExitUnavailable, "unavailable", "no_quorum"
	}
	return e
}
