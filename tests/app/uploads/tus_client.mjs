// Sends one file with tus-js-client as told on the command line; with `stopAt` it dies as a killed app would.
import fs from 'node:fs'
import * as tus from 'tus-js-client'

const told = JSON.parse(process.argv[2])
const upload = new tus.Upload(fs.createReadStream(told.file), {
  endpoint: told.endpoint,
  uploadUrl: told.url ?? null,
  uploadSize: fs.statSync(told.file).size,
  headers: told.headers,
  metadata: { filetype: 'image/jpeg' },
  chunkSize: 200000,
  retryDelays: [100, 300, 1000],
  onError: (error) => {
    console.error(String(error))
    process.exit(1)
  },
  onChunkComplete: (_, accepted) => {
    if (told.stopAt && accepted >= told.stopAt) {
      fs.writeSync(1, JSON.stringify({ url: upload.url, accepted }))
      process.kill(process.pid, 'SIGKILL')
    }
  },
  onSuccess: () => fs.writeSync(1, JSON.stringify({ url: upload.url })),
})
upload.start()
