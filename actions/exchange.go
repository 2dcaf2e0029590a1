package actions

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"certbook/actions/kube"
)

// exchange is a directory on the controller in which requests wait for
// whoever signs them: NAME.csr, and beside it NAME.crt when it is signed. It
// holds nothing secret.
type exchange string

func (e exchange) file(name, suffix string) string {
	return filepath.Join(string(e), name+suffix)
}

// read returns a file's content, nil when there is none.
func (e exchange) read(name, suffix string) ([]byte, error) {
	f, err := os.Open(e.file(name, suffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("on the controller: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, kube.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("on the controller: %w", err)
	}
	if len(data) > kube.MaxFile {
		return nil, fmt.Errorf("on the controller: %s is larger than %d bytes", f.Name(), kube.MaxFile)
	}
	return data, nil
}

// write puts a file into the directory, atomically.
func (e exchange) write(name, suffix string, data []byte) error {
	if err := os.MkdirAll(string(e), 0o755); err != nil {
		return fmt.Errorf("on the controller: %w", err)
	}
	if err := writeController(e.file(name, suffix), data, 0o644); err != nil {
		return fmt.Errorf("on the controller: %w", err)
	}
	return nil
}

// writeController writes a file of the controller, atomically.
func writeController(file string, data []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(file), ".certbook-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already when it was renamed
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}
