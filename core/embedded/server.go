package embedded

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

// handoverBudget bounds the wait for another leader: without a quorum there is none, and etcd would wait for five seconds and more.
const handoverBudget = 500 * time.Millisecond

// server is etcd's server and what it takes to end it.
type server struct {
	etcd   *embed.Etcd
	config *embed.Config
	log    *zap.Logger
}

// launch starts etcd, on other ports if the kernel's choice was taken in between, and returns the configuration with final addresses.
func launch(cfg Config) (*server, Config, error) {
	chosen := portIsFree(cfg.ClientAddr) || portIsFree(cfg.PeerAddr)
	for attempt := 1; ; attempt++ {
		final, err := cfg.resolvePorts()
		if err != nil {
			return nil, cfg, err
		}
		s, err := launchOn(final)
		if err == nil {
			return s, final, nil
		}
		if !chosen || attempt == bindAttempts || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, cfg, bindError(err)
		}
	}
}

func launchOn(cfg Config) (*server, error) {
	hook := newFatalHook(cfg.OnFatal)
	s := &server{log: hook.logger(cfg)}
	up, err := cfg.upstream(s.log)
	if err != nil {
		return nil, err
	}
	s.config = up
	s.etcd, err = build(up, hook)
	if err != nil {
		return nil, err
	}
	hook.served()
	return s, nil
}

type built struct {
	etcd *embed.Etcd
	err  error
}

// build runs StartEtcd on a goroutine of its own, which an error that etcd calls fatal ends without an answer.
func build(up *embed.Config, hook *fatalHook) (*embed.Etcd, error) {
	out := make(chan built, 1)
	go func() {
		e, err := embed.StartEtcd(up)
		out <- built{e, err}
	}()
	select {
	case b := <-out:
		if b.err == nil || errors.Is(b.err, syscall.EADDRINUSE) {
			return b.etcd, b.err
		}
		if logDamaged(b.err) {
			b.err = fmt.Errorf("%w: %w; restore it from a snapshot, or replace this member", ErrCorrupt, b.err)
		}
		return nil, fmt.Errorf("data directory %s: %w", up.Dir, b.err)
	case err := <-hook.failed:
		return nil, fmt.Errorf("data directory %s: %w", up.Dir, err)
	}
}

func logDamaged(err error) bool {
	for _, damage := range []error{
		wal.ErrCRCMismatch, wal.ErrFileNotFound, wal.ErrMetadataConflict, wal.ErrSliceOutOfRange, wal.ErrSnapshotMismatch, wal.ErrSnapshotNotFound,
	} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return false
}

// stopped explains an end that nobody asked for. etcd may end a listener without an error.
func stopped(err error) error {
	if err == nil {
		return ErrStopped
	}
	return fmt.Errorf("%w: %w", ErrStopped, err)
}

// ready returns when the member has joined its cluster.
func (s *server) ready(ctx context.Context) error {
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case <-s.etcd.Server.StopNotify():
		return ErrStopped
	case err := <-s.etcd.Err():
		return stopped(err)
	case <-ctx.Done():
		return noQuorum(ctx, ctx.Err())
	}
}

// stop ends the server and waits for it. The raft server goes first: Close waits for listeners that a member without a quorum
// has never opened (etcd#10600), and cuts the calls in flight when they are there.
func (s *server) stop() {
	s.stopRaft()
	s.etcd.Close()
}

func (s *server) stopRaft() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.etcd.Server.Stop()
	}()
	budget := time.NewTimer(handoverBudget)
	defer budget.Stop()
	select {
	case <-stopped:
	case <-budget.C:
		s.etcd.Server.HardStop()
		<-stopped
	}
}
