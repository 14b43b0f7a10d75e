// Command influxdb_client_go writes numbered points with the official Go client of InfluxDB, and repeats what was not
// answered.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api/write"
)

// start is the time of the first point; each one is a millisecond later than the one before.
const start = 1_700_000_000_000_000_000

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: influxdb_client_go URL TOKEN DEVICE POINTS BATCH")
		return
	}
	url, token, device := os.Args[1], os.Args[2], os.Args[3]
	points, batch := number(os.Args[4]), number(os.Args[5])
	options := influxdb2.DefaultOptions().SetUseGZip(true).SetLogLevel(0)
	client := influxdb2.NewClientWithOptions(url, token, options)
	defer client.Close()
	if ok, err := client.Ping(context.Background()); !ok || err != nil {
		fail("ping", err)
	}
	if health, err := client.Health(context.Background()); err != nil || health.Status != "pass" {
		fail("health", err)
	}
	writer := client.WriteAPIBlocking("any", "go")
	repeated := 0
	for first := 0; first < points; first += batch {
		var lines []*write.Point
		for n := first; n < min(first+batch, points); n++ {
			tags := map[string]string{"device": device}
			fields := map[string]interface{}{"number": n, "half": float64(n) / 2}
			lines = append(lines, influxdb2.NewPoint("m", tags, fields, time.Unix(0, start+int64(n)*1_000_000)))
		}
		for writer.WritePoint(context.Background(), lines...) != nil {
			repeated++
			time.Sleep(100 * time.Millisecond)
		}
	}
	fmt.Println(points, "points answered,", repeated, "attempts repeated")
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fail(text, err)
	}
	return value
}

func fail(what string, err error) {
	fmt.Fprintln(os.Stderr, what, err)
	os.Exit(1)
}
