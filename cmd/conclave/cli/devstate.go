package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// A devState tells other commands of the same user where a `conclave dev` serves.
// Its file is locked as long as that dev runs; the kernel ends the lock with the
// process, so a file that can be locked is stale.
type devState struct {
	PID       int      `json:"pid"`
	API       []string `json:"api,omitempty"` // of its hosts; a dev without any has none
	Endpoints []string `json:"endpoints"`
	DataDir   string   `json:"dataDir"`
	Nodes     int      `json:"nodes,omitempty"`   // if there are several
	Control   string   `json:"control,omitempty"` // the socket that takes commands about them
}

const (
	statePrefix = "dev-"
	stateSuffix = ".json"
)

// cacheDir is the user's cache directory for conclave.
func (a *app) cacheDir() (string, error) {
	base := a.env["XDG_CACHE_HOME"]
	if base == "" || !filepath.IsAbs(base) || runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		var err error
		if base, err = a.systemCacheDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(base, "conclave"), nil
}

func (a *app) systemCacheDir() (string, error) {
	switch {
	case runtime.GOOS == "windows" && a.env["LocalAppData"] != "":
		return a.env["LocalAppData"], nil
	case runtime.GOOS == "darwin" && a.env["HOME"] != "":
		return filepath.Join(a.env["HOME"], "Library", "Caches"), nil
	case runtime.GOOS != "windows" && a.env["HOME"] != "":
		return filepath.Join(a.env["HOME"], ".cache"), nil
	}
	return "", errors.New("no home directory is known")
}

// stateDir is where the files of running devs are.
func (a *app) stateDir() (string, error) {
	if dir := a.env["XDG_RUNTIME_DIR"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "conclave"), nil
	}
	dir, err := a.cacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "run"), nil
}

// announce writes the state file and returns what removes it.
func (a *app) announce(s devState) (remove func(), err error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%s%d%s", statePrefix, s.PID, stateSuffix))
	// The file gets its name when it is complete and locked: nobody can take it for a stale one before.
	f, err := fileutil.TryLockFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	err = json.NewEncoder(f).Encode(s)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		_ = os.Remove(path)
		_ = f.Close()
	}, nil
}

// runningDevs returns the devs of this user that run, and removes the files of those that do not.
func (a *app) runningDevs() []devState {
	dir, err := a.stateDir()
	if err != nil {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(dir, statePrefix+"*"+stateSuffix))
	if err != nil {
		return nil
	}
	var running []devState
	for _, path := range paths {
		if f, err := fileutil.TryLockFile(path, os.O_RDWR, 0o600); err == nil {
			_ = os.Remove(path)
			_ = f.Close()
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var s devState
		if json.Unmarshal(b, &s) == nil && len(s.Endpoints) > 0 && processRuns(s.PID) {
			running = append(running, s)
		}
	}
	return running
}

// processRuns says whether a process with this id exists. Another command that
// just removes a stale file holds its lock for a moment, as a running dev does.
func processRuns(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }()
	// Windows knows no such signal, but there FindProcess fails for ended processes.
	return runtime.GOOS == "windows" || !errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
