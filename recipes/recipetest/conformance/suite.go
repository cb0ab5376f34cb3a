package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/conclavehq/conclave/core/embedded"
)

// Config says what the suite knows of a recipe. Its zero value is usable.
type Config struct {
	// Config is the configuration with which the recipe runs, in JSON. Empty: its defaults.
	Config json.RawMessage
	// Scenarios are the recipe's.
	Scenarios []Scenario
	// Host is a program that calls Host, for the check that kills one. Nil: that check is left out.
	Host *Program
	// Patience bounds each check. What reaches it fails. 0: two minutes.
	Patience time.Duration
	// Log gets what hosts and recipes log. Nil: nobody does.
	Log *slog.Logger
}

// A Suite checks one recipe in one place. Its checks run one after the other.
type Suite struct {
	subject Subject
	cfg     Config
	dir     string
	etcd    *embedded.Member
	store   *store
	logs    *logs
	log     *slog.Logger
	names   atomic.Int64
	shared  *place // nil until a check needs it
}

// New starts an etcd for a subject. Close must follow.
func New(ctx context.Context, subject Subject, cfg Config) (*Suite, error) {
	if cfg.Patience == 0 {
		cfg.Patience = patience
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "conf-") // short: sockets are in it
	if err != nil {
		return nil, err
	}
	m, err := embedded.Start(ctx, embedded.Config{Name: "conformance", DataDir: dir + "/etcd", ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		Fast: true, NoFsync: true})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s := &Suite{subject: subject, cfg: cfg, dir: dir, etcd: m, logs: newLogs(), store: watchStore(m.Client())}
	s.log = slog.New(recorder{to: s.logs, next: cfg.Log.Handler()})
	return s, nil
}

// Close ends everything that the suite started.
func (s *Suite) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := s.unshare(ctx)
	s.store.close()
	return errors.Join(err, s.etcd.Close(), os.RemoveAll(s.dir))
}

// place returns a host with the recipe that several checks use.
func (s *Suite) place(ctx context.Context) (*place, error) {
	if s.shared == nil {
		p, err := s.open(ctx, probing{})
		if err != nil {
			return nil, err
		}
		s.shared = p
	}
	return s.shared, nil
}

// unshare ends the host that several checks use; the next check has another one.
func (s *Suite) unshare(ctx context.Context) error {
	p := s.shared
	s.shared = nil
	if p == nil {
		return nil
	}
	return p.close(ctx)
}

// name returns a name that no other call returned.
func (s *Suite) name() string { return fmt.Sprintf("conformance-%d", s.names.Add(1)) }
