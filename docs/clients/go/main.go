package main // Send JSON objects from standard input, one a line, to a Telemetry Hub.
import "bufio"
import "encoding/json"
import "github.com/gorilla/websocket"
import "os"
import "sync"
import "time"
func main() {
	readings, answers, batch, answered, told := make(chan string, 10000), make(chan string), "", time.Now(), new(sync.Once)
	token, lines := map[string][]string{"Authorization": {"Bearer " + os.Getenv("HUB_TOKEN")}}, bufio.NewScanner(os.Stdin)
	go func() {
		for lines.Buffer(nil, 1<<30); lines.Scan(); {
			if line := lines.Text(); len(line) < 250_000 && json.Valid(lines.Bytes()) && line[0] == '{' { // hub: 256 KiB
				readings <- `,{"time":"` + time.Now().Format(time.RFC3339Nano) + `",` + line[1:]
			} else if line != "" {
				println("not sent: no JSON object, or longer than 250,000 bytes:", line[:min(60, len(line))])
			}
		}
		readings <- ","
	}()
	for ; batch != ","; time.Sleep(time.Duration(time.Now().UnixNano()) % min(5e8+time.Since(answered), time.Minute/2)) {
		hub, _, err := websocket.DefaultDialer.Dial(os.Getenv("HUB_URL"), token)
		go func() { // it always reads, so that the hub's pings are answered
			for answer := []byte("connected"); err == nil; _, answer, err = hub.ReadMessage() {
				told = new(sync.Once)
				answers <- string(answer)
			}
			told.Do(func() { println("no connection, check HUB_URL and HUB_TOKEN:", err.Error()) })
			answers <- ""
		}()
		for answer := <-answers; answer != "" && batch != ","; answer = <-answers {
			if println(answer); answer[len(answer)-2] != '"' && answer != "connected" { // "ok", or refused values
				batch, answered = "", time.Now()
			} // else it is sent again, with the readings that collect meanwhile
			for time.Sleep(1e8); batch == "" || len(readings) > 1 && len(batch) < 10_000; batch += <-readings {
			}
			hub.WriteMessage(websocket.TextMessage, []byte("["+batch[1:]+"]"))
		}
	}
}
