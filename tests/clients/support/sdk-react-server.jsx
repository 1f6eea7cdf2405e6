// Renders the chat of sdk-react-app.jsx on a server: HTML and nothing else, for the client opens no connection there.

import { createClient } from '@fanfare/client'
import { renderToString } from 'react-dom/server'
import { App } from './sdk-react-app.jsx'

export const render = ({ url, ...props }) => renderToString(<App client={createClient({ url })} {...props} />)
