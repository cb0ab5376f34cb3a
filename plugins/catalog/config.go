package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The policies for signatures.
const (
	PolicyRequire = "require" // a trusted key has signed it, or it is not run
	PolicyWarn    = "warn"    // one that nobody signed runs, and the host says so
	PolicyOff     = "off"     // signatures are not looked at
)

// A Config is the plugins section of a host's configuration.
type Config struct {
	// Dir holds the manifests and plugins.lock. Default "plugins" in the host's data
	// directory; a relative one is relative to that.
	Dir string `json:"dir"`
	// Policy is "require", "warn" or "off". Default "require" if there are keys, else
	// "off".
	Policy string `json:"policy"`
	// Keys are the public keys that are trusted, as minisign prints them, or the
	// files that hold them.
	Keys []string `json:"keys"`
	// Quarantine says when a plugin that crashes is not started any more.
	Quarantine Quarantine `json:"quarantine"`
}

// Quarantine says when a plugin that crashes is not started any more. Zero: the
// launcher's default.
type Quarantine struct {
	Crashes int      `json:"crashes"` // so many of them
	Within  Duration `json:"within"`  // in so short a time
}

const (
	maxCrashes = 1000
	maxWithin  = 24 * time.Hour
)

// ParseConfig reads the plugins section of a host's configuration, in JSON; none is
// the default. The error is [ErrConfig] and names the key.
func ParseConfig(raw json.RawMessage) (Config, error) {
	var c Config
	if len(raw) > 0 && string(raw) != "null" {
		if raw[0] != '{' {
			return Config{}, fmt.Errorf("%w: plugins: is not a group of keys", ErrConfig)
		}
		if err := decode(raw, &c); err != nil {
			return Config{}, fmt.Errorf("%w: plugins.%w", ErrConfig, err)
		}
	}
	within := time.Duration(c.Quarantine.Within)
	switch {
	case c.Policy != "" && c.Policy != PolicyRequire && c.Policy != PolicyWarn && c.Policy != PolicyOff:
		return Config{}, fmt.Errorf("%w: plugins.policy: %q is not one of require, warn, off", ErrConfig, c.Policy)
	case c.Policy == PolicyRequire && len(c.Keys) == 0:
		return Config{}, fmt.Errorf("%w: plugins.keys: is empty, and plugins.policy requires a signature", ErrConfig)
	case c.Quarantine.Crashes < 0 || c.Quarantine.Crashes > maxCrashes:
		return Config{}, fmt.Errorf("%w: plugins.quarantine.crashes: %d: between 1 and %d", ErrConfig, c.Quarantine.Crashes, maxCrashes)
	case within != 0 && (within < time.Second || within > maxWithin):
		return Config{}, fmt.Errorf("%w: plugins.quarantine.within: %s: between 1s and %s", ErrConfig, within, maxWithin)
	}
	return c, nil
}

func (c Config) policy() string {
	if c.Policy == "" && len(c.Keys) > 0 {
		return PolicyRequire
	}
	return cmp.Or(c.Policy, PolicyOff)
}

// keys reads the trusted keys.
func (c Config) keys() ([]PublicKey, error) {
	var keys []PublicKey
	for i, text := range c.Keys {
		if !strings.HasPrefix(text, "RW") || len(text) != 56 {
			b, err := os.ReadFile(text)
			if err != nil {
				return nil, fmt.Errorf("%w: plugins.keys[%d]: it is neither a key, such as minisign prints, nor a file with one: %w", ErrConfig, i, err)
			}
			text = string(b)
		}
		k, err := ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("%w: plugins.keys[%d]: %w", ErrConfig, i, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (c Config) dir(dataDir string) string {
	dir := cmp.Or(c.Dir, "plugins")
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(dataDir, dir)
}

// checkDir refuses a directory in which names of plugins and those of the host's own
// files would meet: what is removed as a plugin could be the store, or etcd's data.
func (c Config) checkDir(dataDir string) error {
	dir, err := filepath.Abs(c.dir(dataDir))
	if err != nil {
		return err
	}
	data, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	for _, pair := range [][2]string{{dir, data}, {filepath.Join(data, storeName), dir}} {
		if rel, err := filepath.Rel(pair[0], pair[1]); err == nil && filepath.IsLocal(rel) {
			return fmt.Errorf("%w: plugins.dir: %s: give plugins a folder of their own, which does not hold the host's data", ErrConfig, dir)
		}
	}
	return nil
}
