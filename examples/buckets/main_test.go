package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The host takes its first snapshot into a bucket whose driver this program links.
func TestSnapshotGoesToTheBucket(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Join(dir, "buckets")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	config := filepath.Join(dir, "conclave.yaml")
	text := "data_dir: " + filepath.Join(dir, "data") + `
api: {listen: "127.0.0.1:0"}
etcd: {listen_client: "127.0.0.1:0", listen_peer: "127.0.0.1:0", fast: true}
snapshots: {to: "mem://"}
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-config", config)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	giveUp := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), "snapshot taken") && strings.Contains(lines.Text(), "mem://") {
			return
		}
		t.Log(lines.Text())
	}
	t.Fatal("no snapshot was taken")
}
