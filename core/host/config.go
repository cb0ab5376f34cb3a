package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// The defaults of a configuration.
const (
	DefaultName    = "conclave"
	DefaultListen  = "127.0.0.1:2378"
	defaultSession = 100_000
	defaultCalls   = 20_000
	defaultConns   = 20_000
	defaultRequest = 1 << 20
	leastQuota     = 16 << 20
)

// The modes of etcd.
const (
	Embedded = "embedded" // a member in this process
	External = "external" // the members at Etcd.Endpoints
)

// A Config says how a host runs. The zero value of every field but DataDir is
// usable; with an external etcd that one too.
type Config struct {
	// Name is the host's name in messages and the embedded member's name.
	// Default "conclave".
	Name string `json:"name"`
	// DataDir holds the embedded member's data and the host's own socket for
	// its administrator. Created with mode 0700.
	DataDir string `json:"data_dir"`

	// API says where and how the recipes are served.
	API API `json:"api"`
	// Etcd says where the state is.
	Etcd Etcd `json:"etcd"`
	// Recipes says how single recipes run, by their names. One that is not named
	// runs with its defaults.
	Recipes map[string]RecipeConfig `json:"recipes"`
	// TLS is the API's. Empty: plaintext.
	TLS TLS `json:"tls"`
	// Auth says who may call the API.
	Auth Auth `json:"auth"`
	// Limits bound what callers can take.
	Limits Limits `json:"limits"`
	// Plugins is for the program that runs the host, in JSON; the host itself does
	// not look at it.
	Plugins json.RawMessage `json:"plugins"`
	// Snapshots says where snapshots of the etcd are kept.
	Snapshots Snapshots `json:"snapshots"`
	// Log is for the program that runs the host; the host itself logs to
	// WithLogger's.
	Log Log `json:"log"`

	// Version is what the host says its version is. Default "dev".
	Version string `json:"-"`
}

// API says where and how the recipes are served.
type API struct {
	// Listen is the host:port. Default 127.0.0.1:2378; port 0 takes a free one.
	Listen string `json:"listen"`
	// InsecureListen allows addresses that other machines reach without TLS, etcd's
	// too: the network is trusted.
	InsecureListen bool `json:"insecure_listen"`
	// Names are host names under which callers reach the API, beside localhost
	// and the address itself. Requests for other names are refused.
	Names []string `json:"names"`
}

// Auth says who may call the API.
type Auth struct {
	// Callers is a file of names, each with a token's SHA-256 or a certificate's common
	// name, and a permission: see package callers. It is followed while it changes.
	// Empty: everybody who can connect may do everything.
	Callers string `json:"callers"`
}

// Etcd says where the state is.
type Etcd struct {
	// Mode is "embedded" or "external". Default: embedded, unless Endpoints are
	// given.
	Mode string `json:"mode"`

	// Endpoints are the client URLs of an external etcd.
	Endpoints []string `json:"endpoints"`
	// User is the host's login at etcd, once etcd's authentication is on. Empty: none,
	// but at an external etcd perhaps the name in the host's certificate.
	User string `json:"user"`
	// Password belongs to User.
	Password string `json:"password"`
	// PasswordFile holds the password on one line, instead of Password.
	PasswordFile string `json:"password_file"`
	// TLS is for an external etcd, and for the cluster to join: the authority that
	// signs its certificates, and the host's own.
	TLS TLS `json:"tls"`

	// ListenClient is the host:port of the embedded member's own API. Default
	// 127.0.0.1:2379; port 0 takes a free one.
	ListenClient string `json:"listen_client"`
	// ListenPeer is the embedded member's host:port for raft. Default
	// 127.0.0.1:2380; port 0 takes a free one.
	ListenPeer string `json:"listen_peer"`
	// ClientTLS is the embedded member's for its own API. Empty: plaintext.
	ClientTLS TLS `json:"client_tls"`
	// PeerTLS is the embedded member's for raft, where members show certificates to
	// each other. Empty: plaintext.
	PeerTLS TLS `json:"peer_tls"`
	// AdvertiseClient is the host:port under which clients reach the embedded member.
	// Default: what it listens on.
	AdvertiseClient string `json:"advertise_client"`
	// AdvertisePeer is the host:port under which the other members reach it. Default:
	// what InitialCluster says, or else what it listens on.
	AdvertisePeer string `json:"advertise_peer"`
	// InitialCluster maps the name of every member that founds the cluster to its peer
	// URL. It counts while the data directory is empty. Empty: this member alone.
	InitialCluster map[string]string `json:"initial_cluster"`
	// InitialClusterToken tells clusters apart that have shared addresses; the
	// founders have the same one.
	InitialClusterToken string `json:"initial_cluster_token"`
	// Join are the addresses of a cluster that runs: the APIs of its hosts, or the
	// client URLs of its members. An embedded member without data joins it, as a
	// learner first; one with data starts as what it was. TLS is for https.
	Join Addresses `json:"join"`
	// QuotaBytes bounds the embedded member's database, from 16 MiB; beyond it etcd
	// takes no writes until there is room. Default 2 GiB; 8 GiB is etcd's own advice
	// for the most.
	QuotaBytes int64 `json:"quota_bytes"`
	// Fast suits members that share a machine: 10 ms heartbeats instead of 100.
	Fast bool `json:"fast"`
	// NoFsync is for tests only: a machine that crashes then loses acknowledged
	// writes.
	NoFsync bool `json:"no_fsync"`
	// ConfigFile is upstream's own configuration file, in YAML, which then alone
	// configures the embedded member, with upstream's defaults. The host's name and
	// data directory are the member's. Only User and its password stand beside it.
	ConfigFile string `json:"config_file"`

	file *embedded.Config // what ConfigFile says, once the host has begun to start
}

// A RecipeConfig says how one recipe runs.
type RecipeConfig struct {
	// Mode is "inprocess", "subprocess" or "off". Default: as the recipe is given to
	// the host. A recipe that runs in a process of its own may be one that the host
	// does not have yet, and is given while it runs.
	Mode RecipeMode `json:"mode"`
	// Config is the recipe's own configuration, in JSON.
	Config json.RawMessage `json:"config"`
}

// A RecipeMode says whether a recipe runs, and where.
type RecipeMode string

// The modes of a recipe.
const (
	Inprocess  = "inprocess"  // in the host's own process
	Subprocess = "subprocess" // in a process of its own, for which the program that runs the host provides
	Off        = "off"        // not at all
)

// UnmarshalJSON takes false for "off": in YAML the bare word off means that.
func (m *RecipeMode) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		*m = Off
		return nil
	}
	return json.Unmarshal(b, (*string)(m))
}

// Limits bound what callers can take of the host. Zero: the default.
type Limits struct {
	// Sessions opened at this host at one time. Default 100,000.
	Sessions int `json:"sessions"`
	// Calls under way at one time, waiting ones included. Default 20,000.
	Calls int `json:"calls"`
	// Connections open at one time. Default 20,000.
	Connections int `json:"connections"`
	// RequestBytes of one message. Default 1 MiB.
	RequestBytes int `json:"request_bytes"`
}

// Log says what is logged, to whom the program's logger decides.
type Log struct {
	// Level is "debug", "info", "warn" or "error". Default "info".
	Level string `json:"level"`
	// Format is "text" or "json". Default "text".
	Format string `json:"format"`
}

// WithDefaults returns c with every default filled in.
func (c Config) WithDefaults() Config {
	if c.Etcd.ConfigFile == "" { // which names the member itself
		setDefault(&c.Name, DefaultName)
	}
	setDefault(&c.API.Listen, DefaultListen)
	setDefault(&c.Version, "dev")
	if c.Etcd.Mode == "" {
		c.Etcd.Mode = Embedded
		if len(c.Etcd.Endpoints) > 0 {
			c.Etcd.Mode = External
		}
	}
	setDefault(&c.Limits.Sessions, defaultSession)
	setDefault(&c.Limits.Calls, defaultCalls)
	setDefault(&c.Limits.Connections, defaultConns)
	setDefault(&c.Limits.RequestBytes, defaultRequest)
	setDefault(&c.Log.Level, "info")
	setDefault(&c.Log.Format, "text")
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ErrConfig is the error of a configuration; the message names the field as the
// configuration file does.
var ErrConfig = errors.New("invalid configuration")

func configError(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %w", ErrConfig, field, fmt.Errorf(format, args...))
}

// Check returns an error that is [ErrConfig] for a value outside its limits. It
// does no I/O.
func (c Config) Check() error {
	return errors.Join(c.checkEtcd(), c.checkCluster(), c.checkAPI(), c.checkListeners(), c.checkLimits(), c.checkRecipes(), c.Snapshots.check(),
		oneOf("log.level", c.Log.Level, "", "debug", "info", "warn", "error"), oneOf("log.format", c.Log.Format, "", "text", "json"))
}

func (c Config) checkEtcd() error {
	e := c.Etcd
	if err := oneOf("etcd.mode", e.Mode, "", Embedded, External); err != nil {
		return err
	}
	external := e.Mode == External || (e.Mode == "" && len(e.Endpoints) > 0)
	switch {
	case external && len(e.Endpoints) == 0:
		return configError("etcd.endpoints", "is empty; an external etcd has at least one")
	case !external && len(e.Endpoints) > 0:
		return configError("etcd.endpoints", "is for mode external")
	case !external && c.DataDir == "" && e.ConfigFile == "":
		return configError("data_dir", "is empty; an embedded etcd keeps its data there")
	case external && (e.ListenClient != "" || e.ListenPeer != "" || len(e.InitialCluster) > 0):
		return configError("etcd", "listen_client, listen_peer and initial_cluster are for mode embedded")
	case external && (e.ClientTLS.enabled() || e.PeerTLS.enabled()):
		return configError("etcd", "client_tls and peer_tls are for mode embedded")
	case !external && e.TLS.enabled() && len(e.Join) == 0:
		return configError("etcd.tls", "is for mode external, and for join; the embedded member has client_tls and peer_tls")
	case e.User == "" && (e.Password != "" || e.PasswordFile != ""):
		return configError("etcd.user", "is empty, but a password is given")
	case e.User != "" && (e.Password == "") == (e.PasswordFile == ""):
		return configError("etcd.password_file", "is what a user has, or else a password")
	}
	return errors.Join(c.checkConfigFile(external), checkAddr("etcd.listen_client", e.ListenClient), checkAddr("etcd.listen_peer", e.ListenPeer), e.TLS.check("etcd.tls"))
}

func (c Config) checkAPI() error {
	listen := firstOf(c.API.Listen, DefaultListen)
	if err := checkAddr("api.listen", listen); err != nil {
		return err
	}
	return nil
}

func (c Config) checkLimits() error {
	if q := c.Etcd.QuotaBytes; q != 0 && q < leastQuota {
		return configError("etcd.quota_bytes", "%d is under the least, %d", q, leastQuota)
	}
	for _, l := range []struct {
		field string
		value int
	}{
		{"sessions", c.Limits.Sessions}, {"calls", c.Limits.Calls}, {"connections", c.Limits.Connections}, {"request_bytes", c.Limits.RequestBytes},
	} {
		if l.value < 0 {
			return configError("limits."+l.field, "%d is negative", l.value)
		}
	}
	return nil
}

func (c Config) checkRecipes() error {
	for name, r := range c.Recipes {
		if err := keyspace.CheckName("recipes", name); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
		if err := oneOf("recipes."+name+".mode", string(r.Mode), "", Inprocess, Subprocess, Off); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(field, value string, choices ...string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return configError(field, "%q is not one of %s", value, strings.Join(choices[1:], ", "))
}

func checkAddr(field, addr string) error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return configError(field, "%q is not host:port", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return configError(field, "%q: port %q is not a number from 0 to 65535", addr, port)
	}
	return nil
}

// reachesSelfOnly reports whether only this machine reaches a listener.
func reachesSelfOnly(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err != nil || isLoopback(host) // what is no address is told by checkAddr
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// stopBudget is how long a host takes at most until only its member is left to end,
// and how long Run waits for all of it.
const stopBudget = 2 * time.Second
