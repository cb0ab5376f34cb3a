package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

const (
	lockName = "conclave.lock"
	pidName  = "conclave.pid"

	// A process that starts another one shares its locks with it until the other one has begun to run its own program: a claim
	// that was just let go may stand for that long. The pid file tells it from a live claim.
	handOverBudget = 500 * time.Millisecond
	handOverLook   = 5 * time.Millisecond
)

// dirLock is this process's claim on a data directory. The kernel ends it with the process, so that no crash leaves it behind.
type dirLock struct {
	file *fileutil.LockedFile
	pid  string
}

// lockDir creates dir if it is missing and claims it. It does not wait for a live claim to end.
func lockDir(ctx context.Context, dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	pidFile := filepath.Join(dir, pidName)
	f, err := tryLock(dir)
	for begun := time.Now(); errors.Is(err, fileutil.ErrLocked) && absent(pidFile) && time.Since(begun) < handOverBudget; f, err = tryLock(dir) {
		select {
		case <-time.After(handOverLook):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, inUse(dir, pidFile)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	// The pid is a second file because a locked file cannot be read by others on every system.
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("pid file: %w", err), f.Close())
	}
	return &dirLock{file: f, pid: pidFile}, nil
}

// Free returns an error that is ErrDataDirInUse, and names the process, if another member is on dir now. It is for a program that
// wants to say so before it begins anything else; Start finds out by itself.
func Free(dir string) error {
	if absent(dir) {
		return nil
	}
	claim, err := lockDir(context.Background(), dir)
	if err != nil {
		return err
	}
	return claim.release()
}

func tryLock(dir string) (*fileutil.LockedFile, error) {
	return fileutil.TryLockFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
}

func absent(file string) bool {
	_, err := os.Stat(file)
	return errors.Is(err, os.ErrNotExist)
}

func inUse(dir, pidFile string) error {
	b, err := os.ReadFile(pidFile)
	pid := strings.TrimSpace(string(b))
	if err != nil || pid == "" {
		return fmt.Errorf("%w: %s", ErrDataDirInUse, dir)
	}
	return fmt.Errorf("%w: %s is held by process %s", ErrDataDirInUse, dir, pid)
}

// release ends the claim. The lock file itself stays: removing it would let two processes lock two files of one name.
func (l *dirLock) release() error {
	err := os.Remove(l.pid)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.file.Close())
}
