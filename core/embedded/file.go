package embedded

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	"sigs.k8s.io/yaml"

	"github.com/conclavehq/conclave/internal/suggest"
)

// What Conclave needs of a member that a file configures.
const (
	leastTxnOps       = 128     // the committer's batches
	leastRequestBytes = 1 << 20 // the largest request of a recipe
	mostPingInterval  = clientKeepAlive
)

// A File is upstream's own configuration file, as a member's configuration.
type File struct {
	// Config runs the member that the file describes. Name, DataDir, ClientAddr and PeerAddr say what the file does, for the reader;
	// Tune puts all of the file into upstream's configuration. Logger, OnFatal, Username and Password may be set.
	Config Config
	// Ignored says, for each setting that has no effect here, which and why.
	Ignored []string
	// Open are the addresses on which the member listens in plaintext and which other machines reach.
	Open []string
}

// ReadFile reads upstream's configuration file, in YAML, as etcd --config-file does: what it does not say has upstream's default. The
// error is ErrConfig, and names the setting, for a value that upstream refuses, and for the few that Conclave cannot work with:
// certificates that a client must not verify, smaller transactions or requests than recipes make, what is no longer etcd's but changed
// where data go (a proxy, the old discovery).
func ReadFile(path string) (File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	f, err := parseFile(b)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// IsFile reports whether b is a configuration file of upstream's: it has a setting whose name upstream knows, or once did, and which has
// a hyphen. A host's own has none.
func IsFile(b []byte) bool {
	var settings map[string]any
	if yaml.Unmarshal(b, &settings) != nil {
		return false
	}
	for name := range settings {
		if strings.Contains(name, "-") && (slices.Contains(fileSettings(), name) || obsolete(name)) {
			return true
		}
	}
	return false
}

func parseFile(b []byte) (File, error) {
	var settings map[string]any
	if err := yaml.Unmarshal(b, &settings); err != nil {
		return File{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := refuseSettings(settings); err != nil {
		return File{}, err
	}
	up, err := upstreamFile(settings)
	if err != nil {
		return File{}, err
	}
	f := File{Ignored: ignored(settings)}
	if err := usable(up); err != nil {
		return f, err
	}
	for _, u := range slices.Concat(up.ListenClientUrls, up.ListenPeerUrls, up.ListenClientHttpUrls) {
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			f.Open = append(f.Open, u.String())
		}
	}
	f.Config = Config{
		Name: up.Name, DataDir: up.Dir, ClientAddr: up.ListenClientUrls[0].Host, PeerAddr: up.ListenPeerUrls[0].Host,
		AdvertisePeer: up.AdvertisePeerUrls[0].Host, AutoCompaction: -1,
		Tune: func(e *embed.Config) {
			up.Dir = e.Dir // the reader may have made it absolute
			*e = *up
		},
	}
	return f, nil
}

// refuseSettings looks at what upstream's own reader would end the process for, and at what it would pass over although it mattered once.
func refuseSettings(settings map[string]any) error {
	for _, name := range []string{"listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "initial-advertise-peer-urls",
		"advertise-client-urls", "listen-metrics-urls"} {
		text, ok := settings[name].(string)
		if !ok || text == "" {
			continue
		}
		for part := range strings.SplitSeq(text, ",") {
			u, err := url.Parse(strings.TrimSpace(part))
			if err != nil || u.Scheme == "" || u.Host == "" {
				return configError(name, "%q is not a URL such as http://127.0.0.1:2379", part)
			}
			if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "0" {
				return configError(name, "%q has no port, or 0: others could not know it", part)
			}
		}
	}
	if proxy, ok := settings["proxy"]; ok && proxy != nil && proxy != false && proxy != "off" {
		return configError("proxy", "%v: etcd has none any more", proxy)
	}
	if discovery, ok := settings["discovery"].(string); ok && discovery != "" {
		return configError("discovery", "etcd no longer asks this service, and would found a cluster of its own: use initial-cluster, or discovery-config")
	}
	if client, ok := settings["client-transport-security"].(map[string]any); ok && client["auto-tls"] == true {
		return configError("client-transport-security", "auto-tls: nobody could verify such a certificate, this process included; see conclave certs")
	}
	return nil
}

// upstreamFile is what upstream makes of the settings. It reads a copy without those of its log, whose outputs it would open at once.
func upstreamFile(settings map[string]any) (up *embed.Config, err error) {
	copied := maps.Clone(settings)
	for name := range copied {
		if logs(name) {
			delete(copied, name)
		}
	}
	copied["log-outputs"], copied["log-level"] = []string{os.DevNull}, "fatal"
	b, err := yaml.Marshal(copied)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	tmp, err := os.CreateTemp("", "conclave-etcd-*.yaml")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	if _, writeErr := tmp.Write(b); writeErr != nil {
		return nil, errors.Join(writeErr, tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return nil, err
	}
	// Upstream panics on some lists that it cannot read.
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("%w: %v", ErrConfig, p), err)
		}
	}()
	if up, err = embed.ConfigFromFile(tmp.Name()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	// That there is no default host is no error to etcd either.
	_, _ = up.UpdateDefaultClusterFromName(embed.NewConfig().InitialCluster)
	if up.Dir == "" {
		up.Dir = up.Name + ".etcd"
	}
	return up, nil
}

// usable puts the address that this process itself will use first, and refuses what recipes could not work with.
func usable(up *embed.Config) error {
	own := slices.IndexFunc(up.ListenClientUrls, func(u url.URL) bool { return u.Scheme == "http" && loopback(u.Hostname()) })
	if own < 0 {
		own = slices.IndexFunc(up.ListenClientUrls, func(u url.URL) bool { return u.Scheme == "http" || u.Scheme == "https" })
	}
	switch {
	case own < 0:
		return configError("listen-client-urls", "has no http or https address, over which this process could reach the member")
	case up.MaxTxnOps < leastTxnOps:
		return configError("max-txn-ops", "%d is less than the %d that recipes send at once", up.MaxTxnOps, leastTxnOps)
	case up.MaxRequestBytes < leastRequestBytes:
		return configError("max-request-bytes", "%d is less than the %d that recipes may send", up.MaxRequestBytes, leastRequestBytes)
	case up.GRPCKeepAliveMinTime > mostPingInterval:
		return configError("grpc-keepalive-min-time", "%s is more than the %s at which Conclave's clients ask whether etcd is there", up.GRPCKeepAliveMinTime, mostPingInterval)
	}
	urls := up.ListenClientUrls
	urls[0], urls[own] = urls[own], urls[0]
	return nil
}

// ignored lists what has no effect, in order.
func ignored(settings map[string]any) []string {
	var out []string
	known := fileSettings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		switch meant := suggest.Closest(name, known); {
		case logs(name):
			out = append(out, name+": etcd's messages go to this process's own log")
		case slices.Contains(known, name) || settings[name] == nil:
		case obsolete(name):
			out = append(out, name+": etcd has no such setting any more")
		case meant != "":
			out = append(out, fmt.Sprintf("%s: etcd knows no such setting; did you mean %q?", name, meant))
		default:
			out = append(out, name+": etcd knows no such setting")
		}
	}
	return out
}

func logs(name string) bool {
	return strings.HasPrefix(name, "log-") || name == "logger" || name == "enable-log-rotation"
}

// obsolete tells settings of etcd 3.4 and 3.5 that upstream's samples still have, and which changed nothing where they are off.
func obsolete(name string) bool {
	return strings.HasPrefix(name, "proxy") || strings.HasPrefix(name, "experimental-") || strings.HasPrefix(name, "discovery") || name == "enable-v2"
}

// fileSettings are the names that upstream's file has.
func fileSettings() []string {
	names := []string{"listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "initial-advertise-peer-urls", "advertise-client-urls",
		"cors", "host-whitelist", "client-transport-security", "peer-transport-security", "feature-gates"}
	for f := range reflect.TypeFor[embed.Config]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
