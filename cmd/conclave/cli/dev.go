package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core/host"
)

const (
	defaultClientAddr = "127.0.0.1:2379"
	defaultPeerAddr   = "127.0.0.1:2380"

	devStart = 30 * time.Second // a database that must be recovered takes time
)

type devFlags struct {
	dataDir, clientAddr, peerAddr, apiAddr, config string
	nodes                                          int
	plugins                                        []string
}

func (a *app) devCommand() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a host and its etcd for development in this terminal",
		Long: `dev runs a host with every standard recipe, and an etcd, in this process, on
loopback, without configuration, until Ctrl-C. When it serves it prints
"ready api=URL etcd=URL ui=URL" on stdout. Other commands of the same user on this
machine find it without flags.

With --nodes 3 it runs three, which are one cluster, each in a process of its own; the
ready line then has lists. The ports of the second are 20,000 higher, of the third
30,000. Other terminals stop, start, restart and kill single ones: conclave dev stop 2.
When dev ends, however it ends, they end.

With --plugin it runs a recipe of yours, a folder with a plugin.yaml or a binary, without
adding it; conclave plugin restart takes what was built meanwhile.

Without --data-dir the data is kept in a directory under the user's cache, which is
named in the output.`,
		Example: `  conclave dev
  conclave dev --data-dir ./data
  conclave dev --nodes 3                     # a cluster; then in another terminal:
  conclave dev kill 2
  conclave dev start 2
  conclave dev --plugin ./ratelimit          # with a recipe of your own
  conclave dev --api-addr 127.0.0.1:0 --client-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0     # any free ports`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.dataDir, "data-dir", "", "directory for the data")
	fs.StringVar(&f.apiAddr, "api-addr", "", "host:port for the API (default "+host.DefaultListen+"); port 0 takes a free one")
	fs.StringVar(&f.clientAddr, "client-addr", "", "host:port for etcd clients (default "+defaultClientAddr+"); port 0 takes a free one")
	fs.StringVar(&f.peerAddr, "peer-addr", "", "host:port for raft (default "+defaultPeerAddr+"); port 0 takes a free one")
	fs.StringVar(&f.config, "config", "", "configuration file; flags count before it")
	fs.StringArrayVar(&f.plugins, "plugin", nil, "a plugin's folder or binary to run, as it is; may be repeated")
	fs.IntVar(&f.nodes, "nodes", 1, fmt.Sprintf("how many nodes, at most %d, each a process of its own", maxNodes))
	cmd.AddCommand(a.devNodeCommands()...)
	cmd.SetUsageTemplate(strings.Replace(usageTemplate, "<command>", "[flags]\n  {{.CommandPath}} <command>", 1))
	return cmd
}

func (a *app) dev(ctx context.Context, f devFlags) error {
	cfg, err := a.devConfig(f)
	if err != nil {
		return err
	}
	plugins, err := absolute(f.plugins)
	if err != nil {
		return err
	}
	if f.nodes > 1 {
		return a.devNodes(ctx, cfg, plugins, f.nodes)
	}
	log := newGate(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return a.runHost(ctx, hostRun{
		config: cfg, plugins: plugins, dev: true, log: slog.New(log), start: devStart,
		ready: func(h *host.Host) func() {
			remove, err := a.announce(devState{PID: os.Getpid(), API: []string{h.API()}, Endpoints: h.Etcd(), DataDir: cfg.DataDir})
			if err != nil {
				a.note(fmt.Sprintf("other commands will need --api to find this one: %v", err))
				remove = func() {}
			}
			a.note("data directory " + cfg.DataDir)
			log.open.Store(true)
			a.sayReady(h)
			return remove
		},
		stop: func() { log.open.Store(false) },
		explain: func(err error) error {
			return hostError(err, cfg.Etcd.ListenClient+" or "+cfg.Etcd.ListenPeer,
				"conclave dev --api-addr 127.0.0.1:0 --client-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0")
		},
	})
}

// devConfig is the configuration file's, if there is one, under the flags.
func (a *app) devConfig(f devFlags) (host.Config, error) {
	var cfg host.Config
	if f.nodes < 1 || f.nodes > maxNodes {
		return cfg, usage("invalid_nodes", "3 survive the loss of one, 5 of two", "--nodes: %d is outside 1 to %d", f.nodes, maxNodes)
	}
	if f.config != "" {
		var err error
		if cfg, err = loadConfig(f.config); err != nil {
			return cfg, err
		}
	}
	if cfg.Etcd.Mode == host.External || len(cfg.Etcd.Endpoints) > 0 {
		return cfg, usage("invalid_config", "use conclave serve", "%s: dev runs an etcd of its own, and this one names another", f.config)
	}
	for _, addr := range []struct {
		flag, value, fallback string
		to                    *string
	}{
		{"api-addr", f.apiAddr, host.DefaultListen, &cfg.API.Listen},
		{"client-addr", f.clientAddr, defaultClientAddr, &cfg.Etcd.ListenClient},
		{"peer-addr", f.peerAddr, defaultPeerAddr, &cfg.Etcd.ListenPeer},
	} {
		*addr.to = firstOf(addr.value, *addr.to, addr.fallback)
		if err := checkLoopback(addr.flag, *addr.to); err != nil {
			return cfg, err
		}
	}
	cfg.Name, cfg.Version = firstOf(cfg.Name, "dev"), readVersion().Version
	// A cluster keeps etcd's own times: shorter ones suit no machine that is busy.
	cfg.Etcd.Fast = cfg.Etcd.Fast || f.nodes == 1
	var err error
	if cfg.DataDir, err = a.devDataDir(firstOf(f.dataDir, cfg.DataDir), cfg.Etcd.ListenClient, f.nodes); err != nil || f.nodes > 1 {
		return cfg, err
	}
	_, err = readPlan(cfg.DataDir, 1)
	return cfg, err
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (a *app) devDataDir(dir, clientAddr string, nodes int) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := a.cacheDir()
	if err != nil {
		return "", usage("invalid_data-dir", "name one with --data-dir", "no directory for the data: %v", err)
	}
	name := "dev"
	if nodes > 1 {
		name = fmt.Sprintf("dev-nodes%d", nodes)
	}
	if clientAddr != defaultClientAddr {
		// Two of them, on two ports, are two stores.
		_, port, _ := net.SplitHostPort(clientAddr)
		name += "-" + port
	}
	return filepath.Join(cache, name), nil
}

// checkLoopback refuses an address that other machines can reach: dev asks
// nobody who they are.
func checkLoopback(flag, addr string) error {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usage("invalid_"+flag, "such as 127.0.0.1:2379", "--%s: %v", flag, err)
	}
	if ip := net.ParseIP(name); name == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return usage("invalid_"+flag, "use 127.0.0.1",
		"--%s: %s is not a loopback address, and dev neither encrypts nor asks who calls", flag, addr)
}
