package cli

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core/host"
)

// serveStart is how long a host may wait for its etcd: the other members of a
// cluster may be started much later.
const serveStart = 10 * time.Minute

type serveFlags struct {
	config, name, dataDir, apiAddr, clientAddr, peerAddr string
	advertiseClient, advertisePeer                       string
	join                                                 []string
	insecure                                             bool
}

func (a *app) serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a host for production",
		Long: `serve runs a host with every standard recipe, on an etcd in this process or, as the
configuration file says, --endpoints or CONCLAVE_ENDPOINTS, on an etcd elsewhere, until
INT or TERM. When it serves it prints "ready api=URL etcd=URL ui=URL" on stdout, and
tells systemd. It logs to stderr.

Hosts whose configuration names the same etcd.initial_cluster found a cluster. With
--join a host joins one that runs: it is taken in as a learner, catches up, and then
votes. Whatever ends it meanwhile, the same command goes on with it, and later starts it
as what it has become.

Addresses other than loopback need TLS in the configuration file, or --insecure-listen.`,
		Example: `  conclave serve --config /etc/conclave.yaml
  conclave serve --data-dir /var/lib/conclave
  conclave serve --name b --join http://10.0.0.1:2378 --peer-addr 10.0.0.2:2380 --config /etc/conclave.yaml
  conclave serve --endpoints http://10.0.0.1:2379,http://10.0.0.2:2379      # an etcd that you have

  # /etc/conclave.yaml
  data_dir: /var/lib/conclave
  api: {listen: "0.0.0.0:2378"}
  tls: {cert: host.pem, key: host-key.pem}`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", "", "configuration file; flags count before it")
	fs.StringVar(&f.name, "name", "", "the host's name, and its member's in the cluster (default "+host.DefaultName+")")
	fs.StringSliceVar(&f.join, "join", nil, "cluster to join: the API of a host of it, or etcd's client URL, comma-separated")
	fs.StringVar(&f.dataDir, "data-dir", "", "directory for the embedded etcd's data and the administrator's socket")
	fs.StringVar(&f.apiAddr, "api-addr", "", "host:port for the API (default "+host.DefaultListen+")")
	fs.StringVar(&f.clientAddr, "client-addr", "", "host:port for the embedded etcd's clients (default "+defaultClientAddr+")")
	fs.StringVar(&f.peerAddr, "peer-addr", "", "host:port for the embedded etcd's peers (default "+defaultPeerAddr+")")
	fs.StringVar(&f.advertiseClient, "advertise-client", "", "host:port under which clients reach the embedded etcd (default --client-addr)")
	fs.StringVar(&f.advertisePeer, "advertise-peer", "", "host:port under which the other members reach the embedded etcd (default --peer-addr)")
	fs.BoolVar(&f.insecure, "insecure-listen", false, "listen without TLS where other machines can reach it: the network is trusted")
	return cmd
}

func (a *app) serve(ctx context.Context, f serveFlags) error {
	cfg, err := a.serveConfig(f)
	if err != nil {
		return err
	}
	return a.runHost(ctx, hostRun{
		config: cfg, log: slog.New(a.logHandler(cfg.WithDefaults().Log)), start: serveStart,
		ready: func(h *host.Host) func() {
			a.sayReady(h)
			// Without systemd there is nobody to tell.
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
			return func() {}
		},
		stop: func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) },
		explain: func(err error) error {
			return hostError(err, firstOf(cfg.Etcd.ListenClient, defaultClientAddr)+" or "+firstOf(cfg.Etcd.ListenPeer, defaultPeerAddr),
				"see --api-addr, --client-addr and --peer-addr")
		},
	})
}

// serveConfig is the configuration file's under the flags.
func (a *app) serveConfig(f serveFlags) (host.Config, error) {
	var cfg host.Config
	if f.config != "" {
		var err error
		if cfg, err = loadConfig(f.config); err != nil {
			return cfg, err
		}
	}
	if err := a.serveEndpoints(&cfg); err != nil {
		return cfg, err
	}
	cfg.Name = firstOf(f.name, cfg.Name)
	if len(f.join) > 0 {
		cfg.Etcd.Join = f.join
	}
	cfg.API.Listen = firstOf(f.apiAddr, cfg.API.Listen)
	cfg.API.InsecureListen = cfg.API.InsecureListen || f.insecure
	cfg.Etcd.ListenClient = firstOf(f.clientAddr, cfg.Etcd.ListenClient)
	cfg.Etcd.ListenPeer = firstOf(f.peerAddr, cfg.Etcd.ListenPeer)
	cfg.Etcd.AdvertiseClient = firstOf(f.advertiseClient, cfg.Etcd.AdvertiseClient)
	cfg.Etcd.AdvertisePeer = firstOf(f.advertisePeer, cfg.Etcd.AdvertisePeer)
	cfg.Version = readVersion().Version
	if dir := firstOf(f.dataDir, cfg.DataDir); dir != "" {
		var err error
		if cfg.DataDir, err = filepath.Abs(dir); err != nil {
			return cfg, err
		}
	}
	if err := cfg.Check(); err != nil {
		return cfg, configError(err)
	}
	return cfg, nil
}

// serveEndpoints takes the etcd that a flag names, or else the environment, before
// that of the file.
func (a *app) serveEndpoints(cfg *host.Config) error {
	endpoints, from := a.flags.endpoints, "--endpoints"
	if len(endpoints) == 0 {
		endpoints, from = list(a.env["CONCLAVE_ENDPOINTS"]), "CONCLAVE_ENDPOINTS"
	}
	if len(endpoints) > 0 {
		cfg.Etcd.Mode, cfg.Etcd.Endpoints = host.External, endpoints
	}
	return checkEndpoints(from, endpoints)
}

// loadConfig reads a configuration file.
func loadConfig(file string) (host.Config, error) {
	cfg, err := host.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, usage("invalid_config", "", "--config: there is no file %s", file)
	}
	if err != nil {
		return cfg, configError(err)
	}
	return cfg, nil
}

func configError(err error) *Error {
	e := usage("invalid_configuration", "see conclave serve --help, and docs/operations.md", "%s", oneLine(err))
	e.cause = err
	return e
}

// logHandler writes as the configuration says.
func (a *app) logHandler(l host.Log) slog.Handler {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // Check has seen it
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.NewJSONHandler(a.stderr, o)
	}
	return slog.NewTextHandler(a.stderr, o)
}
