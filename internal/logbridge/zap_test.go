package logbridge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/conclavehq/conclave/internal/logbridge"
)

func bridge(least zapcore.Level, level slog.Level, opts ...zap.Option) (*zap.Logger, *bytes.Buffer) {
	var buf bytes.Buffer
	h := slog.NewJSONHandler(&buf, &slog.HandlerOptions{Level: level, AddSource: true})
	return zap.New(logbridge.Zap(slog.New(h), least), opts...), &buf
}

func TestZapCarriesLevelFieldsAndSource(t *testing.T) {
	log, buf := bridge(zapcore.DebugLevel, slog.LevelDebug, zap.AddCaller())
	log.Named("raft").With(zap.Int("term", 3)).Warn("slow disk", zap.Error(errors.New("late")), zap.Strings("peers", []string{"a", "b"}))

	var got map[string]any
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatalf("one JSON line expected, got %q: %v", buf, err)
	}
	for k, want := range map[string]any{"level": "WARN", "msg": "slow disk", "logger": "raft", "term": 3.0, "error": "late"} {
		if got[k] != want {
			t.Errorf("%s = %v, want %v", k, got[k], want)
		}
	}
	src, _ := got["source"].(map[string]any)
	if file, _ := src["file"].(string); !strings.HasSuffix(file, "zap_test.go") {
		t.Errorf("source = %v, want this file", src)
	}
}

func TestZapObeysBothThresholds(t *testing.T) {
	log, buf := bridge(zapcore.WarnLevel, slog.LevelDebug)
	log.Info("below the bridge's")
	if buf.Len() != 0 {
		t.Errorf("info passed a bridge that starts at warn: %s", buf)
	}
	log, buf = bridge(zapcore.DebugLevel, slog.LevelError)
	log.Warn("below the handler's")
	if buf.Len() != 0 {
		t.Errorf("warn passed a handler that starts at error: %s", buf)
	}
	log.Error("passes")
	if !strings.Contains(buf.String(), "passes") {
		t.Errorf("error did not pass: %s", buf)
	}
}

func TestNilLoggerIsSilentAndStillEndsOnPanic(t *testing.T) {
	log := zap.New(logbridge.Zap(nil, zapcore.DebugLevel))
	defer func() {
		if recover() == nil {
			t.Error("a dropped entry must not swallow zap's panic")
		}
	}()
	log.Info("nobody reads this")
	log.Panic("stop")
}
