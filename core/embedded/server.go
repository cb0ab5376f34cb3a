package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	// handoverBudget bounds the wait for another leader: without a quorum there is none, and etcd would wait for five seconds and more.
	handoverBudget = 500 * time.Millisecond
	// drainBudget bounds the wait for calls in flight, which etcd itself may give five seconds and more.
	drainBudget = 300 * time.Millisecond
	// strandedLeast is the least time that a write is given after a change of the leader: an fsync on a busy disk, and two.
	strandedLeast = 250 * time.Millisecond
	// closeBudget bounds what comes after: idle connections of other members, which etcd gives a second.
	closeBudget = 1200 * time.Millisecond
)

// server is etcd's server and what it takes to end it.
type server struct {
	etcd   *embed.Etcd
	config *embed.Config
	log    *zap.Logger
	hook   *fatalHook
	writes *stranded

	mu       sync.Mutex
	cut      bool
	grpc     []*grpc.Server
	handover *handover // the last that was begun
}

// A handover is one try to have another member lead.
type handover struct {
	began time.Time
	done  chan struct{}
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
	s := &server{log: hook.logger(cfg), hook: hook, writes: newStranded()}
	up, err := cfg.upstream(s.log)
	if err != nil {
		return nil, err
	}
	register := up.ServiceRegister
	up.ServiceRegister = func(g *grpc.Server) {
		s.keep(g)
		if register != nil {
			register(g)
		}
	}
	up.GRPCAdditionalServerOptions = append(up.GRPCAdditionalServerOptions, grpc.ChainUnaryInterceptor(s.writes.intercept))
	s.writes.grace = max(time.Duration(up.ElectionMs)*time.Millisecond/2, strandedLeast)
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
		if strings.Contains(b.err.Error(), "has already been bootstrapped") {
			b.err = fmt.Errorf("%w: %w, and its data are not here; replace it", ErrMemberExists, b.err)
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

// keep remembers a gRPC server that etcd makes once it is ready, which may be while it is being stopped.
func (s *server) keep(g *grpc.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grpc = append(s.grpc, g)
	if s.cut {
		g.Stop()
	}
}

// cutCalls ends the calls that are still in flight.
func (s *server) cutCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for _, g := range s.grpc {
		g.Stop()
	}
}

// stopped explains an end that nobody asked for. etcd may end a listener without an error, and says that a server is stopping where it was removed.
func (s *server) stopped(err error) error {
	switch e := s.etcd.Server; {
	case e.Cluster().Member(e.MemberID()) == nil || s.hook.removed.Load():
		return fmt.Errorf("%w: %w, and its data are of no use any more", ErrStopped, ErrRemoved)
	case err == nil:
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
		return s.stopped(nil)
	case err := <-s.etcd.Err():
		return s.stopped(err)
	case <-ctx.Done():
		return noQuorum(ctx, ctx.Err())
	}
}

// stop ends the server and waits for it. The raft server goes first: Close waits for listeners that a member without a quorum
// has never opened (etcd#10600).
//
// A connection that has never sent a byte cannot be ended from here: etcd still reads its first bytes to tell HTTP from gRPC, without a
// deadline, and Close waits for that reader. By then the data and the raft server are closed; stop closes the ports itself, and leaves the rest of
// Close to end with that connection.
func (s *server) stop() {
	s.stopRaft()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.etcd.Close()
	}()
	if within(drainBudget, closed) {
		return
	}
	s.cutCalls()
	if within(closeBudget, closed) {
		return
	}
	s.log.Warn("a silent connection outlives the member")
	for _, l := range s.etcd.Clients {
		_ = l.Close() // an error says that etcd has closed it
	}
	for _, p := range s.etcd.Peers {
		_ = p.Close()
	}
}

// within reports whether done was closed in time.
func within(d time.Duration, done <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// handOver has another member lead, if this one does, and waits for that until ctx ends or the member stops. A try that is under way is joined.
func (s *server) handOver(ctx context.Context) {
	select {
	case <-s.beginHandover().done:
	case <-ctx.Done():
	}
}

func (s *server) beginHandover() *handover {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.handover; h != nil {
		select {
		case <-h.done:
		default:
			return h
		}
	}
	h := &handover{began: time.Now(), done: make(chan struct{})}
	s.handover = h
	go func() {
		defer close(h.done)
		if err := s.etcd.Server.TryTransferLeadershipOnShutdown(); err != nil {
			s.log.Warn("no other member took the leadership", zap.Error(err))
		}
	}()
	return h
}

// stopRaft hands the leadership over and ends the raft server, and with it a handover that nobody answers: etcd would wait for that for five
// seconds and more.
func (s *server) stopRaft() {
	h := s.beginHandover()
	within(handoverBudget-time.Since(h.began), h.done)
	s.etcd.Server.HardStop()
	<-h.done
}
