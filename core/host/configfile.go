package host

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/conclavehq/conclave/core/embedded"
)

// checkConfigFile refuses what upstream's file would have to share with the host's
// own: one of the two would silently not count.
func (c Config) checkConfigFile(external bool) error {
	e := c.Etcd
	if e.ConfigFile == "" {
		return nil
	}
	if external {
		return configError("etcd.config_file", "is for mode embedded")
	}
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"listen_client", e.ListenClient != ""}, {"listen_peer", e.ListenPeer != ""}, {"client_tls", e.ClientTLS.enabled()}, {"peer_tls", e.PeerTLS.enabled()},
		{"advertise_client", e.AdvertiseClient != ""}, {"advertise_peer", e.AdvertisePeer != ""}, {"initial_cluster", len(e.InitialCluster) > 0},
		{"initial_cluster_token", e.InitialClusterToken != ""}, {"join", len(e.Join) > 0}, {"quota_bytes", e.QuotaBytes != 0}, {"fast", e.Fast}, {"no_fsync", e.NoFsync},
	} {
		if f.given {
			return configError("etcd."+f.name, "is given beside etcd.config_file, which alone configures the member")
		}
	}
	return nil
}

// withFile returns c with the name, the data directory and the member that
// upstream's file describes.
func (c Config) withFile(log *slog.Logger) (Config, error) {
	if c.Etcd.ConfigFile == "" {
		return c, nil
	}
	f, err := embedded.ReadFile(c.Etcd.ConfigFile)
	if err != nil {
		return c, fmt.Errorf("%w: etcd.config_file: %w", ErrConfig, err)
	}
	if c.Name != "" && c.Name != f.Config.Name {
		return c, configError("name", "%q is another than the member's, %q, in etcd.config_file", c.Name, f.Config.Name)
	}
	dir, err := filepath.Abs(f.Config.DataDir)
	if err != nil {
		return c, err
	}
	if own, err := filepath.Abs(c.DataDir); err != nil || (c.DataDir != "" && own != dir) {
		return c, configError("data_dir", "%s is another than the data-dir %s in etcd.config_file", c.DataDir, dir)
	}
	if len(f.Open) > 0 && !c.API.InsecureListen {
		return c, configError("etcd.config_file", "%s: other machines reach it in plaintext: use https there, or say api.insecure_listen", strings.Join(f.Open, ", "))
	}
	for _, what := range f.Ignored {
		log.Warn("a setting of etcd.config_file has no effect", "setting", what)
	}
	c.Name, c.DataDir = f.Config.Name, dir
	f.Config.DataDir = dir
	c.Etcd.file = &f.Config
	return c, nil
}

// readFile takes over what upstream's file says, if there is one.
func (h *Host) readFile() error {
	cfg, err := h.cfg.withFile(h.log)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg = cfg
	return err
}
