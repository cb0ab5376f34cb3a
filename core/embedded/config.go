package embedded

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

const (
	defaultName       = "conclave"
	defaultClientAddr = "127.0.0.1:2379"
	defaultPeerAddr   = "127.0.0.1:2380"
	defaultCompaction = time.Hour
	maxTxnOps         = 1024 // upstream's is 128; the committer's batches are larger where many callers are at work

	fastTick     = 10 * time.Millisecond
	fastElection = 100 * time.Millisecond
)

// Config says how a member runs. The zero value of every field but DataDir is usable.
type Config struct {
	// Name is the member's name, unique in its cluster. Default "conclave".
	Name string
	// DataDir holds the member's data. It is created with mode 0700. Required.
	DataDir string

	// ClientAddr and PeerAddr are the host:port that the member listens on: defaults 127.0.0.1:2379 and 127.0.0.1:2380.
	// Port 0 takes a free port; a member with other members needs a PeerAddr that they can know beforehand.
	ClientAddr, PeerAddr string
	// AdvertiseClient and AdvertisePeer are the host:port under which others reach this member. Default: the listen address.
	AdvertiseClient, AdvertisePeer string

	// InitialCluster maps the name of every member, this one included, to its peer URL, or to several with commas. Empty: this member alone.
	// It counts only while DataDir is empty; afterwards the cluster's own record does.
	InitialCluster map[string]string
	// InitialToken tells clusters apart that share addresses. Every member of a cluster has the same one. Default: upstream's.
	InitialToken string
	// ClientTLS and PeerTLS secure the two listeners. Empty: plaintext. The URLs of InitialCluster then begin with https.
	ClientTLS, PeerTLS TLS
	// TLSMinVersion is the oldest version that either speaks, "1.2" or "1.3". Default 1.3.
	TLSMinVersion string
	// Username and Password are this process's own login, for Client and Direct, once etcd's authentication is on. Empty: none,
	// so that etcd then refuses what they ask. While authentication is off they are not used.
	Username, Password string
	// Join says that the cluster exists and already counts this member, as [Admit] sees to; otherwise the members of InitialCluster found
	// it. A member that is counted as a learner then becomes a voter before Start returns.
	Join bool

	// Tick and Election are raft's heartbeat interval and election timeout, in whole milliseconds. Zero: upstream's, 100 ms and 1 s.
	Tick, Election time.Duration
	// Fast sets Tick to 10 ms and Election to 100 ms where they are zero: a single member then serves in about 0.1 s.
	// It suits members that share a machine, and no network.
	Fast bool

	// QuotaBytes bounds the database; beyond it the member refuses writes. Zero: upstream's 2 GiB.
	QuotaBytes int64
	// AutoCompaction is how long past revisions stay readable. Zero: one hour. Negative: for ever, so that the database only grows.
	AutoCompaction time.Duration
	// NoFsync skips every fsync. For tests only: a machine that crashes then loses writes that were acknowledged, and with them
	// the order of tokens.
	NoFsync bool

	// Logger receives what etcd says at warn and above. Nil: silence.
	Logger *slog.Logger
	// OnFatal runs when etcd is about to end the process: a full disk, a failed fsync, a broken invariant. reason is one line.
	// Deferred calls will not run, so it must do what cannot wait, such as ending child processes. It runs once, on etcd's
	// goroutine; it may end the process itself. When it returns, the process ends with FatalExitCode.
	OnFatal func(reason string)

	// Tune has the last word on upstream's configuration, for what the fields above do not cover. Logging set there is ignored.
	Tune func(*embed.Config)
}

func (c Config) withDefaults() Config {
	setDefault(&c.Name, defaultName)
	setDefault(&c.ClientAddr, defaultClientAddr)
	setDefault(&c.PeerAddr, defaultPeerAddr)
	if c.Fast {
		setDefault(&c.Tick, fastTick)
		setDefault(&c.Election, fastElection)
	}
	setDefault(&c.AutoCompaction, defaultCompaction)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	if c.DataDir == "" {
		return configError("DataDir", "must name a directory")
	}
	if strings.ContainsAny(c.Name, "=,") {
		return configError("Name", "%q must not contain '=' or ','", c.Name)
	}
	addrs := []struct{ field, addr string }{
		{"ClientAddr", c.ClientAddr}, {"PeerAddr", c.PeerAddr},
		{"AdvertiseClient", c.AdvertiseClient}, {"AdvertisePeer", c.AdvertisePeer},
	}
	for _, a := range addrs {
		if a.addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			return configError(a.field, "%v", err)
		}
	}
	if _, ok := c.InitialCluster[c.Name]; len(c.InitialCluster) > 0 && !ok {
		return configError("InitialCluster", "has no member %q, which is this one", c.Name)
	}
	if len(c.InitialCluster) > 0 && portIsFree(c.PeerAddr) {
		return configError("PeerAddr", "%q: other members cannot know a port that is chosen at start", c.PeerAddr)
	}
	if err := c.validateTLS(); err != nil {
		return err
	}
	return c.validateTimes()
}

func (c Config) validateTimes() error {
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"Tick", c.Tick}, {"Election", c.Election}} {
		if d.value < 0 || d.value%time.Millisecond != 0 {
			return configError(d.field, "%v is not a whole number of milliseconds", d.value)
		}
	}
	if c.QuotaBytes < 0 {
		return configError("QuotaBytes", "%d is negative", c.QuotaBytes)
	}
	return nil
}

// portIsFree reports whether addr leaves its port to the kernel.
func portIsFree(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	return err == nil && (port == "0" || port == "")
}

// upstream renders c for etcd. Addresses must be final by now: port 0 in a URL would be what other members are told.
func (c Config) upstream(log *zap.Logger) (*embed.Config, error) {
	e := embed.NewConfig()
	e.MaxTxnOps = maxTxnOps
	e.Name, e.Dir = c.Name, c.DataDir
	e.ListenClientUrls, e.ListenPeerUrls = secured(c.ClientAddr, c.ClientTLS), secured(c.PeerAddr, c.PeerTLS)
	e.AdvertiseClientUrls = secured(firstOf(c.AdvertiseClient, c.ClientAddr), c.ClientTLS)
	e.AdvertisePeerUrls = secured(firstOf(c.AdvertisePeer, c.PeerAddr), c.PeerTLS)
	c.secure(e)
	e.InitialCluster = c.initialCluster()
	setUnlessZero(&e.InitialClusterToken, c.InitialToken)
	if c.Join {
		e.ClusterState = embed.ClusterStateFlagExisting
	}
	setUnlessZero(&e.TickMs, uint(c.Tick.Milliseconds()))
	setUnlessZero(&e.ElectionMs, uint(c.Election.Milliseconds()))
	e.QuotaBackendBytes = c.QuotaBytes
	if c.AutoCompaction > 0 {
		e.AutoCompactionMode = embed.CompactorModePeriodic
		e.AutoCompactionRetention = c.AutoCompaction.String()
	}
	e.UnsafeNoFsync = c.NoFsync
	e.EnableGRPCGateway = false
	if c.Tune != nil {
		c.Tune(e)
	}
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return e, nil
}

func (c Config) initialCluster() string {
	if len(c.InitialCluster) == 0 {
		return c.Name + "=" + c.peerURL()
	}
	parts := make([]string, 0, len(c.InitialCluster))
	for name, peers := range c.InitialCluster {
		for peer := range strings.SplitSeq(peers, ",") {
			parts = append(parts, name+"="+peer)
		}
	}
	return strings.Join(parts, ",")
}

// peerURL is under which other members reach this one.
func (c Config) peerURL() string {
	return c.PeerTLS.scheme() + "://" + firstOf(c.AdvertisePeer, c.PeerAddr)
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func setUnlessZero[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}
