package discovery

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// An Option sets up a [Registrar], a [Resolver] or [RunChecks]; each says what it
// is for.
// Values outside their limits make every call return core.ErrInvalid.
type Option func(*options)

type options struct {
	namespace string
	log       *slog.Logger
	naming    string
	drainWait time.Duration
	reader    reader

	checkNamespaces []string
	checkNetworks   []netip.Prefix
}

// reader is what resolvers must have in common to share a watch.
type reader struct {
	share        float64
	window, hold time.Duration
	least        int
	staleAfter   time.Duration
	dir          string
	idle         time.Duration
}

const defaultNamespace = "default"

// The defaults of [WithGuard], and of the others.
const (
	DefaultShare  = 0.5
	DefaultWindow = 30 * time.Second
	DefaultHold   = 5 * time.Minute

	leastGuarded      = 4
	defaultStaleAfter = 15 * time.Second
	defaultDrainWait  = 2 * time.Second
	maxDrainWait      = time.Hour
)

// WithNamespace sets the namespace of a [Resolver]. The default is "default". A
// [Registrar] is in its session's.
func WithNamespace(ns string) Option { return func(o *options) { o.namespace = ns } }

// WithLogger sets the logger of a [Resolver] or of [RunChecks], silent by default. A [Registrar]
// has its session's.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// WithNaming makes a [Registrar] write every instance a second time, in the
// layout of etcd's own client/v3/naming, under prefix + service: then a gRPC
// client with etcd's resolver finds it as "etcd:///" + prefix + service. Only
// instances that can be sent to stand there. The default is not to. A prefix
// must not be one of Conclave's own keys.
func WithNaming(prefix string) Option { return func(o *options) { o.naming = prefix } }

// WithDrainWait sets how long [Registration.Drain] of a [Registrar] waits for
// readers after it has said that the instance drains, up to an hour. The default
// is 2 s, many times what a change takes to reach them.
func WithDrainWait(d time.Duration) Option { return func(o *options) { o.drainWait = d } }

// WithGuard sets a [Resolver]'s guard against mass losses: when more than share
// of a service's instances vanish within window, they stay in its snapshots,
// marked stale, for at most hold. Instances that were deregistered or drain do
// not count, and a service of fewer than 4 instances is not guarded. share is
// from 0 to 1; 1 turns the guard off. The defaults are [DefaultShare],
// [DefaultWindow] and [DefaultHold].
func WithGuard(share float64, window, hold time.Duration) Option {
	return func(o *options) { o.reader.share, o.reader.window, o.reader.hold = share, window, hold }
}

// WithStaleAfter sets how long nothing may be heard of etcd until a [Resolver]'s
// snapshots say that they are stale: 15 s by default, at least 1 s.
func WithStaleAfter(d time.Duration) Option {
	return func(o *options) { o.reader.staleAfter = d }
}

// WithDisk makes a [Resolver] keep a copy of every service that it resolves in
// the directory, which must exist, and begin with it, marked stale, when etcd
// does not answer at the start. The default is to keep none.
func WithDisk(dir string) Option { return func(o *options) { o.reader.dir = dir } }

// WithIdle makes a [Resolver] forget a service that nobody has resolved or
// watched for that long; the next Resolve asks etcd again. It is for programs
// that resolve what others name. The default is to remember until Close.
func WithIdle(d time.Duration) Option { return func(o *options) { o.reader.idle = d } }

func newOptions(opts []Option) (options, error) {
	o := options{namespace: defaultNamespace, drainWait: defaultDrainWait, reader: reader{
		share: DefaultShare, window: DefaultWindow, hold: DefaultHold, least: leastGuarded, staleAfter: defaultStaleAfter,
	}}
	for _, opt := range opts {
		opt(&o)
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return o, fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return o, nil
}

func (o options) check() error {
	if err := keyspace.CheckNamespace("namespace", o.namespace); err != nil {
		return err
	}
	for _, ns := range o.checkNamespaces {
		if err := keyspace.CheckNamespace("check namespaces", ns); err != nil {
			return err
		}
	}
	r := o.reader
	switch {
	case len(o.naming) >= len(keyspace.Root) && o.naming[:len(keyspace.Root)] == keyspace.Root:
		return fmt.Errorf("naming: the prefix %q is one of Conclave's own keys", o.naming)
	case o.drainWait < 0 || o.drainWait > maxDrainWait:
		return fmt.Errorf("drain wait: %v is outside 0s to %v", o.drainWait, maxDrainWait)
	case r.share < 0 || r.share > 1 || math.IsNaN(r.share):
		return fmt.Errorf("guard: share %v is outside 0 to 1", r.share)
	case r.window <= 0 || r.hold <= 0:
		return fmt.Errorf("guard: window %v and hold %v must be more than 0s", r.window, r.hold)
	case r.staleAfter < time.Second:
		return fmt.Errorf("stale after: %v is less than 1s", r.staleAfter)
	case r.idle < 0:
		return fmt.Errorf("idle: %v is less than 0s", r.idle)
	}
	return nil
}
